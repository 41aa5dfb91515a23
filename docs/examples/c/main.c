/* thanos INPUT OUTPUT: prunes one layer. thanos --describe: says what is supported. thanos --serve: prunes many. See
   docs/vectors.md. */
#include "thanos.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("thanos: refused: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("thanos: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("out of memory: %zu times %zu bytes", count, size);
    return memory;
}

/* ---- Exact counts: long multiplication on decimal digits, from the last digit up ---- */

/* p x + a y, rounded down, or up. x and y are counts of numbers in memory, so that 9 x + 9 y + carry fits. */
static uint64_t digits_times(const struct decimal *p, uint64_t x, const struct decimal *a, uint64_t y, int up)
{
    uint64_t carry = 0;
    int exact = 1;
    for (size_t i = p->count > a->count ? p->count : a->count; i-- > 0;) {
        carry += (i < p->count ? p->digit[i] * x : 0) + (i < a->count ? a->digit[i] * y : 0);
        exact &= carry % 10 == 0;
        carry /= 10;
    }
    return carry + (up && !exact ? 1 : 0);
}

uint64_t floor_times(const struct decimal *p, uint64_t x)
{
    return digits_times(p, x, p, 0, 0);
}

uint64_t ceil_times(const struct decimal *p, uint64_t x)
{
    return digits_times(p, x, p, 0, 1);
}

/* s = ceil(p b / (1 - alpha)): the least s with p b + alpha s <= s, so without division; b + 1 if none up to b. */
static uint64_t structured_count(const struct task *task, uint64_t b)
{
    uint64_t low = 0, high = b + 1;
    while (low < high) {
        uint64_t s = low + (high - low) / 2;
        if (digits_times(&task->p, b, &task->alpha, s, 1) <= s)
            high = s;
        else
            low = s + 1;
    }
    return low;
}

/* ---- Settings ---- */

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A whole number without a sign; too large a one becomes the largest there is. NULL if there is none, else what follows. */
static const char *parse_whole(const char *text, size_t *value)
{
    const char *start = text;
    for (*value = 0; is_digit(*text); text++) {
        size_t digit = (size_t)(*text - '0');
        *value = *value > (SIZE_MAX - digit) / 10 ? SIZE_MAX : 10 * *value + digit;
    }
    return text == start ? NULL : text;
}

/* Moves past [+-]digits[.digits][e[+-]digits], with at most four digits after e. NULL if there is no such number. */
static const char *skip_number(const char *text)
{
    int digits = 0;
    text += *text == '-' || *text == '+';
    for (; is_digit(*text); text++)
        digits = 1;
    for (text += *text == '.'; is_digit(*text); text++)
        digits = 1;
    if (digits && (*text == 'e' || *text == 'E')) {
        text++;
        text += *text == '-' || *text == '+';
        const char *exponent = text;
        while (is_digit(*text))
            text++;
        if (text == exponent || text - exponent > 4)
            return NULL;
    }
    return digits ? text : NULL;
}

static _Noreturn void refuse_pattern(const char *pattern, const char *what)
{
    refuse("pattern: %s in \"%s\"", what, pattern);
}

/* The text [text, end), which skip_number has accepted, as an exact decimal in [0, 1). */
static void parse_decimal(struct decimal *out, const char *text, const char *end, const char *pattern, const char *range)
{
    int negative = *text == '-', point = 0;
    long places = 0; /* digits before the point, without leading zeros; negative: zeros after the point */
    out->count = 0;
    for (; text < end && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.')
            point = 1;
        if (!is_digit(*text))
            continue;
        if (out->count == MAX_DIGITS)
            refuse_pattern(pattern, "a number with too many digits");
        if (out->count || *text != '0') {
            out->digit[out->count++] = (unsigned char)(*text - '0');
            places += !point;
        } else {
            places -= point;
        }
    }
    if (!out->count)
        return; /* zero, even -0.0 */
    long exponent = text < end ? strtol(text + 1, NULL, 10) : 0; /* saturates */
    if (exponent < -2 * MAX_TEXT)
        exponent = -2 * MAX_TEXT; /* far too long in any case */
    if (negative || exponent > MAX_TEXT || places + exponent > 0)
        refuse_pattern(pattern, range);
    size_t zeros = (size_t)-(places + exponent);
    if (zeros > MAX_DIGITS - out->count)
        refuse_pattern(pattern, "a number with too many digits");
    memmove(out->digit + zeros, out->digit, out->count);
    memset(out->digit, 0, zeros);
    out->count += zeros;
}

/* unstructured:P, structured:P, N:M; the last two perhaps with +outliers:A. */
static void parse_pattern(struct task *task, const char *pattern)
{
    static const char unstructured[] = "unstructured:", structured[] = "structured:", outliers[] = "+outliers:";
    const char *at = pattern, *end;
    task->kind = SEMISTRUCTURED;
    if (!strncmp(at, unstructured, strlen(unstructured)))
        task->kind = UNSTRUCTURED, at += strlen(unstructured);
    else if (!strncmp(at, structured, strlen(structured)))
        task->kind = STRUCTURED, at += strlen(structured);
    if (task->kind == SEMISTRUCTURED) {
        end = parse_whole(at, &task->n);
        const char *colon = end;
        if (!end || *end != ':' || !(end = parse_whole(end + 1, &task->m)))
            refuse_pattern(pattern, "N:M, unstructured:P or structured:P expected");
        if (colon - at > 9 || end - colon > 10)
            refuse_pattern(pattern, "n or m has more than nine digits");
        if (task->m < 1 || task->n > task->m)
            refuse_pattern(pattern, "m is less than 1 or n is not in [0, m]");
    } else {
        if (!(end = skip_number(at)))
            refuse_pattern(pattern, "p is no number");
        parse_decimal(&task->p, at, end, pattern, "p is not in [0, 1)");
    }
    if (task->kind != UNSTRUCTURED && !strncmp(end, outliers, strlen(outliers))) {
        at = end + strlen(outliers);
        if (!(end = skip_number(at)))
            refuse_pattern(pattern, "alpha is no number");
        parse_decimal(&task->alpha, at, end, pattern, "alpha is not in [0, 1)");
    }
    if (*end)
        refuse_pattern(pattern, "something is left over");
}

const char *setting(const struct archive *archive, const char *key)
{
    for (size_t i = 0; i < archive->texts; i++)
        if (!strcmp(archive->text[i].key, key))
            return archive->text[i].value;
    fail("%s: not given", key);
}

/* The place of the setting in names, which ends with NULL. */
static int choice(const struct archive *archive, const char *key, const char *const names[])
{
    const char *value = setting(archive, key);
    for (int i = 0; names[i]; i++)
        if (!strcmp(value, names[i]))
            return i;
    fail("%s: \"%s\" is unknown", key, value);
}

static void read_settings(struct task *task, const struct archive *archive)
{
    static const char *const methods[] = {"thanos", "magnitude", "wanda", "sparsegpt", NULL};
    const char *pattern = setting(archive, "pattern"), *damping = setting(archive, "damping"), *end;
    task->method = (enum method)choice(archive, "method", methods);
    parse_pattern(task, pattern);
    if (task->method != THANOS && ceil_times(&task->alpha, 1))
        refuse("pattern: alpha is above 0 in \"%s\"; method %s has no outlier rows", pattern, setting(archive, "method"));
    end = skip_number(damping);
    task->damping = end && !*end ? strtod(damping, NULL) : NAN;
    if (!(task->damping > 0) || !isfinite(task->damping))
        refuse("damping: \"%s\" is no finite number above 0", damping);
}

/* What is refused after weight and gram: the block size, and what depends on the shape. */
static void fit_settings(struct task *task, const struct archive *archive, size_t b)
{
    const char *pattern = setting(archive, "pattern"), *block = setting(archive, "block_size");
    const char *end = parse_whole(block, &task->block);
    if (!end || *end || task->block < 1)
        refuse("block_size: \"%s\" is no whole number of at least 1", block);
    if (task->kind == SEMISTRUCTURED && b % task->m)
        refuse("pattern: m in \"%s\" does not divide the %zu columns", pattern, b);
    if (task->kind == SEMISTRUCTURED && task->block < b && task->block % task->m)
        refuse("block_size: %zu is not divisible by m in \"%s\"", task->block, pattern);
    if (task->block > b)
        task->block = b;
    if (task->kind == STRUCTURED) {
        uint64_t columns = structured_count(task, b);
        if (columns > b)
            refuse("pattern: \"%s\" asks for more columns than the %zu there are", pattern, b);
        task->columns = (size_t)columns;
    }
}

/* ---- The program ---- */

static const struct tensor *required(const struct archive *archive, const char *name)
{
    const struct tensor *tensor = find_tensor(archive, name);
    if (!tensor)
        fail("%s: no such tensor in the input", name);
    return tensor;
}

void prune_file(const char *input, const char *output)
{
    static const char *const dtypes[] = {"float64", "float32", NULL}, *const stored[] = {"none", "float16", "bfloat16", NULL};
    static const char *const dtype_codes[] = {"F64", "F32"}, *const stored_codes[] = {NULL, "F16", "BF16"};
    struct archive *archive = allocate(1, sizeof *archive);
    struct task *task = allocate(1, sizeof *task);
    struct result result = {0};
    if (!strcmp(input, output))
        fail("OUTPUT: %s is the input", output);
    read_archive(input, archive);
    read_settings(task, archive);
    const char *computed = dtype_codes[choice(archive, "dtype", dtypes)];
    const char *type = stored_codes[choice(archive, "storage", stored)];
    type = type ? type : computed;
    const struct tensor *w = required(archive, "weight"), *g = required(archive, "gram");
    double *weight = read_matrix(archive, w, type), *gram = read_matrix(archive, g, computed);
    size_t c = (size_t)w->shape[0], b = (size_t)w->shape[1];
    if (g->shape[0] != b || g->shape[1] != b)
        refuse("gram: its shape is %zu x %zu, which should be %zu x %zu", (size_t)g->shape[0], (size_t)g->shape[1], b, b);
    check_gram(gram, b);
    fit_settings(task, archive, b);
    prune(task, c, b, weight, gram, &result);
    write_archive(output, type, c, b, &result);
    free(result.weight);
    free(result.mask);
    free(result.losses);
    free(weight);
    free(gram);
    free(archive->bytes);
    free(archive);
    free(task);
}

static const char description[] =
    "{\"name\": \"thanos in C, from the documentation\",\n"
    " \"methods\": [\"thanos\", \"magnitude\", \"wanda\", \"sparsegpt\"],\n"
    " \"patterns\": [\"unstructured\", \"n:m\", \"structured\", \"outlier-rows\"],\n"
    " \"dtypes\": [\"float64\", \"float32\"], \"storage\": [\"float16\", \"bfloat16\"],\n"
    " \"refusals\": true, \"arithmetic\": \"float64\"}";

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--describe"))
        return puts(description) < 0;
    if (argc == 2 && !strcmp(argv[1], "--serve"))
        return serve(), 0;
    if (argc != 3)
        fail("usage: thanos INPUT OUTPUT, thanos --describe, or thanos --serve");
    prune_file(argv[1], argv[2]);
    return 0;
}
