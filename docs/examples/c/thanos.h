/* Thanos pruning in C, written from docs/specification.md and docs/vectors.md alone. Numbers in brackets, such as (6) or T2,
   are those of the specification. Nothing is global; matrices lie row by row. */
#ifndef THANOS_H
#define THANOS_H

#include <stddef.h>
#include <stdint.h>

/* ---- main.c: the command line, settings, exact counts ---- */

_Noreturn void refuse(const char *format, ...); /* exit status 2: the input is at fault; names the argument and its value */
_Noreturn void fail(const char *format, ...);   /* exit status 1: anything else, such as a full disk */
void *allocate(size_t count, size_t size);      /* zeroed; never NULL */

enum { MAX_DIGITS = 1100 }; /* more than any float64 has after the point (1074) */

struct decimal { /* exactly 0.d1 d2 d3 ... */
    size_t count;
    unsigned char digit[MAX_DIGITS];
};

uint64_t floor_times(const struct decimal *p, uint64_t x);
uint64_t ceil_times(const struct decimal *p, uint64_t x);

enum method { THANOS, MAGNITUDE, WANDA, SPARSEGPT };
enum kind { UNSTRUCTURED, SEMISTRUCTURED, STRUCTURED };

struct task {
    enum method method;
    enum kind kind;
    struct decimal p, alpha; /* sparsity, share of outlier rows */
    size_t n, m;             /* n removed of every m */
    size_t block;            /* B, at most b */
    size_t columns;          /* STRUCTURED: s, the number of columns to remove */
    double damping;          /* gamma */
};

struct archive;

const char *setting(const struct archive *archive, const char *key);
void prune_file(const char *input, const char *output);

/* ---- serve.c: many cases ---- */

void serve(void);

/* ---- prune.c: the algorithms ---- */

struct result {
    double *weight;      /* c x b, not yet rounded to a type */
    unsigned char *mask; /* c x b, 1 where removed */
    double *losses;      /* one a block, or NULL where float64 cannot hold them */
    size_t blocks;
};

void check_gram(double *g, size_t b); /* makes g exactly symmetric */
void prune(const struct task *task, size_t c, size_t b, const double *weight, const double *gram, struct result *result);

/* ---- safetensors.c: the files ---- */

enum { MAX_TENSORS = 16, MAX_RANK = 8, MAX_TEXTS = 32, MAX_NAME = 64, MAX_TEXT = 1280 };

struct tensor {
    char name[MAX_NAME], dtype[MAX_NAME];
    size_t rank;
    uint64_t shape[MAX_RANK], begin, end; /* begin and end: bytes, counted from the end of the header */
};

struct archive {
    unsigned char *bytes; /* the whole file */
    const unsigned char *data;
    size_t tensors, texts;
    struct tensor tensor[MAX_TENSORS];
    struct {
        char key[MAX_NAME], value[MAX_TEXT];
    } text[MAX_TEXTS];
};

void read_archive(const char *path, struct archive *archive);
void read_request(const char *line, struct archive *request); /* its texts alone */
const struct tensor *find_tensor(const struct archive *archive, const char *name);
double *read_matrix(const struct archive *archive, const struct tensor *tensor, const char *dtype);
void write_archive(const char *path, const char *dtype, size_t c, size_t b, const struct result *result);

#endif
