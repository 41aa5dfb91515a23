/* Reading and writing safetensors files. Every byte that is read is distrusted. */
#include "thanos.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The header: the small part of JSON that it may hold ---- */

struct cursor {
    const char *at, *end, *path;
};

static _Noreturn void malformed(const struct cursor *cursor, const char *what)
{
    fail("%s is malformed: %s", cursor->path, what);
}

static void skip_spaces(struct cursor *cursor)
{
    while (cursor->at < cursor->end && *cursor->at && strchr(" \t\r\n", *cursor->at))
        cursor->at++;
}

static int accept(struct cursor *cursor, char wanted)
{
    skip_spaces(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return 0;
    cursor->at++;
    return 1;
}

static void expect(struct cursor *cursor, char wanted)
{
    char what[] = "' ' expected in the header";
    what[1] = wanted;
    if (!accept(cursor, wanted))
        malformed(cursor, what);
}

static unsigned parse_hex4(struct cursor *cursor)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *found = NULL;
        if (cursor->at < cursor->end && *cursor->at)
            found = strchr(digits, *cursor->at++);
        if (!found)
            malformed(cursor, "a bad \\u escape");
        value = 16 * value + (unsigned)(found - digits) % 16;
    }
    return value;
}

/* One escape after its backslash, as UTF-8. Half of a surrogate pair becomes '?': no text that matters here has any. */
static size_t parse_escape(struct cursor *cursor, char out[3])
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char kind = cursor->at < cursor->end ? *cursor->at++ : '\0';
    if (kind != 'u') {
        const char *found = kind ? strchr(from, kind) : NULL;
        if (!found)
            malformed(cursor, "a bad escape");
        out[0] = to[found - from];
        return 1;
    }
    unsigned code = parse_hex4(cursor);
    if (code == 0)
        malformed(cursor, "a zero character");
    if (code >= 0xD800 && code < 0xE000)
        code = '?';
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t size = 0;
    if (code < 0x800) {
        out[size++] = (char)(0xC0 | code >> 6);
    } else {
        out[size++] = (char)(0xE0 | code >> 12);
        out[size++] = (char)(0x80 | (code >> 6 & 0x3F));
    }
    out[size++] = (char)(0x80 | (code & 0x3F));
    return size;
}

static void parse_string(struct cursor *cursor, char *out, size_t room)
{
    size_t used = 0;
    expect(cursor, '"');
    for (;;) {
        char piece[3];
        size_t size = 1;
        if (cursor->at == cursor->end || (unsigned char)*cursor->at < ' ')
            malformed(cursor, "a string without an end");
        piece[0] = *cursor->at++;
        if (piece[0] == '"')
            break;
        if (piece[0] == '\\')
            size = parse_escape(cursor, piece);
        if (room - used <= size)
            malformed(cursor, "a name or text that is too long");
        memcpy(out + used, piece, size);
        used += size;
    }
    out[used] = '\0';
}

static uint64_t parse_integer(struct cursor *cursor)
{
    uint64_t value = 0;
    skip_spaces(cursor);
    const char *start = cursor->at;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        if (value > (UINT64_MAX - 9) / 10)
            malformed(cursor, "a number that is too large");
        value = 10 * value + (uint64_t)(*cursor->at - '0');
    }
    if (cursor->at == start || (*start == '0' && cursor->at > start + 1))
        malformed(cursor, "a whole number expected");
    return value;
}

static size_t parse_integers(struct cursor *cursor, uint64_t *out, size_t room)
{
    size_t count = 0;
    expect(cursor, '[');
    if (accept(cursor, ']'))
        return 0;
    do {
        if (count == room)
            malformed(cursor, "a list that is too long");
        out[count++] = parse_integer(cursor);
    } while (accept(cursor, ','));
    expect(cursor, ']');
    return count;
}

static void parse_tensor(struct cursor *cursor, struct tensor *tensor)
{
    char key[MAX_NAME];
    uint64_t offsets[2];
    int dtypes = 0, shapes = 0, ranges = 0;
    expect(cursor, '{');
    do {
        parse_string(cursor, key, sizeof key);
        expect(cursor, ':');
        if (!strcmp(key, "dtype") && !dtypes++)
            parse_string(cursor, tensor->dtype, sizeof tensor->dtype);
        else if (!strcmp(key, "shape") && !shapes++)
            tensor->rank = parse_integers(cursor, tensor->shape, MAX_RANK);
        else if (!strcmp(key, "data_offsets") && !ranges++ && parse_integers(cursor, offsets, 2) == 2)
            tensor->begin = offsets[0], tensor->end = offsets[1];
        else
            malformed(cursor, "an unknown, repeated or incomplete key of a tensor");
    } while (accept(cursor, ','));
    expect(cursor, '}');
    if (!dtypes || !shapes || !ranges)
        malformed(cursor, "a tensor without dtype, shape or data_offsets");
}

static void parse_metadata(struct cursor *cursor, struct archive *archive)
{
    expect(cursor, '{');
    if (accept(cursor, '}'))
        return;
    do {
        if (archive->texts == MAX_TEXTS)
            malformed(cursor, "too much metadata");
        parse_string(cursor, archive->text[archive->texts].key, MAX_NAME);
        expect(cursor, ':');
        parse_string(cursor, archive->text[archive->texts].value, MAX_TEXT);
        for (size_t i = 0; i < archive->texts; i++)
            if (!strcmp(archive->text[i].key, archive->text[archive->texts].key))
                malformed(cursor, "metadata with a repeated key");
        archive->texts++;
    } while (accept(cursor, ','));
    expect(cursor, '}');
}

static void parse_header(struct cursor *cursor, struct archive *archive)
{
    char name[MAX_NAME];
    expect(cursor, '{');
    if (!accept(cursor, '}')) {
        do {
            parse_string(cursor, name, sizeof name);
            expect(cursor, ':');
            if (!strcmp(name, "__metadata__")) {
                parse_metadata(cursor, archive);
                continue;
            }
            if (archive->tensors == MAX_TENSORS || find_tensor(archive, name))
                malformed(cursor, "too many tensors, or two with one name");
            struct tensor *tensor = &archive->tensor[archive->tensors];
            memcpy(tensor->name, name, sizeof name);
            parse_tensor(cursor, tensor);
            archive->tensors++;
        } while (accept(cursor, ','));
        expect(cursor, '}');
    }
    skip_spaces(cursor);
    if (cursor->at != cursor->end)
        malformed(cursor, "something after the header's object");
}

/* ---- Where the numbers lie ---- */

static size_t dtype_size(const char *dtype)
{
    static const struct {
        char name[8];
        size_t size;
    } known[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"U64", 8}, {"I32", 4},
                 {"U32", 4}, {"I16", 2}, {"U16", 2}, {"I8", 1},   {"U8", 1},  {"BOOL", 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(dtype, known[i].name))
            return known[i].size;
    return 0;
}

/* Each tensor must lie in the file and be as long as its shape says; they may not overlap, nor leave a byte over. */
static void check_layout(const struct cursor *cursor, const struct archive *archive, uint64_t size)
{
    uint64_t sum = 0;
    for (size_t t = 0; t < archive->tensors; t++) {
        const struct tensor *tensor = &archive->tensor[t];
        uint64_t length = dtype_size(tensor->dtype);
        if (!length)
            refuse("%s: dtype %s is unknown", tensor->name, tensor->dtype);
        for (size_t i = 0; i < tensor->rank; i++) {
            if (tensor->shape[i] && length > UINT64_MAX / tensor->shape[i])
                malformed(cursor, "a shape that is too large");
            length *= tensor->shape[i];
        }
        if (tensor->begin > tensor->end || tensor->end > size || tensor->end - tensor->begin != length)
            malformed(cursor, "data_offsets that do not fit the file or the shape");
        for (size_t s = 0; s < t; s++)
            if (archive->tensor[s].begin < tensor->end && tensor->begin < archive->tensor[s].end)
                malformed(cursor, "tensors that overlap");
        sum += length; /* at most the size of the file: no overflow */
    }
    if (sum != size)
        malformed(cursor, "bytes that belong to no tensor");
}

static unsigned char *read_bytes(const char *path, size_t *size)
{
    size_t room = 1 << 16;
    unsigned char *bytes = malloc(room);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("cannot open %s", path);
    *size = 0;
    while (bytes) {
        size_t got = fread(bytes + *size, 1, room - *size, file);
        *size += got;
        if (*size < room)
            break;
        if (room > SIZE_MAX / 2)
            fail("%s is too large", path);
        room *= 2;
        unsigned char *more = realloc(bytes, room);
        if (!more)
            free(bytes);
        bytes = more;
    }
    if (!bytes)
        fail("out of memory while reading %s", path);
    if (ferror(file) || fclose(file))
        fail("cannot read %s", path);
    return bytes;
}

void read_archive(const char *path, struct archive *archive)
{
    size_t size;
    uint64_t length = 0;
    struct cursor cursor = {NULL, NULL, path};
    memset(archive, 0, sizeof *archive);
    archive->bytes = read_bytes(path, &size);
    if (size < 8)
        malformed(&cursor, "shorter than eight bytes");
    for (int i = 7; i >= 0; i--)
        length = length << 8 | archive->bytes[i];
    if (length > size - 8)
        malformed(&cursor, "a header longer than the file");
    cursor.at = (const char *)archive->bytes + 8;
    cursor.end = cursor.at + length;
    archive->data = archive->bytes + 8 + length;
    parse_header(&cursor, archive);
    check_layout(&cursor, archive, size - 8 - length);
}

void read_request(const char *line, struct archive *request)
{
    struct cursor cursor = {line, line + strlen(line), "the request"};
    memset(request, 0, sizeof *request);
    parse_metadata(&cursor, request); /* an object of texts too */
    skip_spaces(&cursor);
    if (cursor.at != cursor.end)
        malformed(&cursor, "something after its object");
}

const struct tensor *find_tensor(const struct archive *archive, const char *name)
{
    for (size_t i = 0; i < archive->tensors; i++)
        if (!strcmp(archive->tensor[i].name, name))
            return &archive->tensor[i];
    return NULL;
}

/* ---- Numbers ---- */

static double decode(const unsigned char *bytes, const char *dtype)
{
    size_t size = dtype_size(dtype);
    uint64_t bits = 0;
    for (size_t i = size; i-- > 0;)
        bits = bits << 8 | bytes[i];
    if (size == 8) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (!strcmp(dtype, "F16")) {
        int exponent = (int)(bits >> 10 & 31);
        double mantissa = (double)(bits & 1023);
        double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        if (exponent == 31)
            value = mantissa > 0 ? NAN : INFINITY;
        return bits >> 15 ? -value : value;
    }
    uint32_t word = (uint32_t)(!strcmp(dtype, "BF16") ? bits << 16 : bits);
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

double *read_matrix(const struct archive *archive, const struct tensor *tensor, const char *dtype)
{
    if (strcmp(tensor->dtype, dtype))
        refuse("%s: its dtype is %s, which should be %s", tensor->name, tensor->dtype, dtype);
    if (tensor->rank != 2)
        refuse("%s: its rank is %zu, which should be 2", tensor->name, tensor->rank);
    if (!tensor->shape[0] || !tensor->shape[1])
        refuse("%s: it is empty: %" PRIu64 " x %" PRIu64, tensor->name, tensor->shape[0], tensor->shape[1]);
    size_t count = (size_t)(tensor->shape[0] * tensor->shape[1]), size = dtype_size(dtype); /* checked by check_layout */
    double *matrix = allocate(count, sizeof *matrix);
    for (size_t i = 0; i < count; i++) {
        matrix[i] = decode(archive->data + tensor->begin + i * size, dtype);
        if (!isfinite(matrix[i]))
            refuse("%s: element %zu is %g", tensor->name, i, matrix[i]);
    }
    return matrix;
}

/* To nearest, ties to even, in a type with so many bits of mantissa and whose smallest number is 2^lowest. */
static double round_to(double value, int bits, int lowest)
{
    int exponent;
    frexp(value, &exponent);
    int unit = exponent - bits > lowest ? exponent - bits : lowest;
    return ldexp(nearbyint(ldexp(value, -unit)), unit);
}

static uint64_t half_bits(double value) /* of a number that is exact in half precision */
{
    int exponent;
    double size = fabs(value), fraction = frexp(size, &exponent);
    double bits = size < 0x1p-14 ? size * 0x1p24 : (exponent + 13) * 1024 + fraction * 2048;
    return (uint64_t)bits | (signbit(value) ? 0x8000u : 0);
}

static void encode(unsigned char *bytes, double value, const char *dtype)
{
    size_t size = dtype_size(dtype);
    uint64_t bits;
    int half = !strcmp(dtype, "F16"), brain = !strcmp(dtype, "BF16");
    double rounded = value, limit = half ? 65504 : 0x1.fffffep127;
    if (size < 8)
        rounded = half ? round_to(value, 11, -24) : brain ? round_to(value, 8, -133) : round_to(value, 24, -149);
    if (!isfinite(rounded) || (size < 8 && fabs(rounded) > limit))
        refuse("weight: a pruned weight is %g, too large for %s", value, dtype);
    if (size == 8) {
        memcpy(&bits, &rounded, sizeof bits);
    } else if (half) {
        bits = half_bits(rounded);
    } else {
        float narrow = (float)rounded; /* exact */
        uint32_t word;
        memcpy(&word, &narrow, sizeof word);
        bits = brain ? word >> 16 : word;
    }
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(bits >> 8 * i);
}

/* ---- Output ---- */

static size_t write_header(char *out, size_t room, const char *dtype, size_t c, size_t b, const struct result *result)
{
    size_t losses = result->losses ? 8 * result->blocks : 0, weight = losses + c * b * dtype_size(dtype);
    int size = 0;
    if (losses)
        size = snprintf(out, room, "{\"block_losses\":{\"dtype\":\"F64\",\"shape\":[%zu],\"data_offsets\":[0,%zu]},",
                        result->blocks, losses);
    else
        size = snprintf(out, room, "{");
    size += snprintf(out + size, room - (size_t)size,
                     "\"weight\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]},"
                     "\"mask\":{\"dtype\":\"U8\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]}}",
                     dtype, c, b, losses, weight, c, b, weight, weight + c * b);
    while (size % 8)
        out[size++] = ' '; /* the caller leaves room for it */
    return (size_t)size;
}

void write_archive(const char *path, const char *dtype, size_t c, size_t b, const struct result *result)
{
    char header[1024];
    size_t length = write_header(header, sizeof header - 8, dtype, c, b, result);
    size_t size = dtype_size(dtype), losses = result->losses ? result->blocks : 0;
    size_t total = 8 + length + 8 * losses + c * b * (size + 1);
    unsigned char *bytes = allocate(total, 1), *at = bytes;
    for (size_t i = 0; i < 8; i++)
        *at++ = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(at, header, length);
    at += length;
    for (size_t i = 0; i < losses; i++, at += 8)
        encode(at, result->losses[i], "F64");
    for (size_t i = 0; i < c * b; i++, at += size)
        encode(at, result->weight[i], dtype);
    memcpy(at, result->mask, c * b);
    FILE *file = fopen(path, "wb");
    if (!file)
        fail("cannot open %s", path);
    int good = fwrite(bytes, 1, total, file) == total;
    if (fclose(file) || !good) {
        remove(path);
        fail("cannot write %s", path);
    }
    free(bytes);
}
