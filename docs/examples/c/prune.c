/* The pruning algorithms.

   H = M'M with M lower triangular (section 5), and D = W^ - W is what is to be found, column block after column block from the
   left. Then the loss (1) is ||E||^2 with E = D M', and column k of E,

       E_ik = sum over l <= k of D_il M_kl,                                                                             (*)

   holds no later column of D. Two things follow, and they are the whole method; no inverse of H is ever formed.

   - The best choice for later columns makes their E zero. So D_ik = -(sum over l < k of D_il M_kl) / M_kk is where a free
     column stands at the moment ("predict"), and W + D is the current, already updated weight.
   - The joint update (6) of a block minimises ||E_k||^2 with D_iq = -W_iq given: least squares with the kept columns of the
     diagonal block M_kk, solved by QR, which does not square the condition number. Its normal equations are T2. */
#include "thanos.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct layer {
    const struct task *task;
    size_t c, b;
    double *w, *g, *m, *d;         /* W and G (scaled), M, D */
    double *norm;                  /* ||X_j|| */
    unsigned char *mask, *outlier; /* c x b; c */
};

/* ---- Scaling and checks ---- */

static double largest(const double *x, size_t count, size_t step)
{
    double most = 0;
    for (size_t i = 0; i < count; i += step)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* x times 2^-e with an even e, so that square roots scale without rounding, and the largest number lies in [1, 4). */
static int scale(double *out, const double *x, size_t count, double most)
{
    int exponent = 0;
    if (most > 0)
        exponent = (int)(2 * floor(logb(most) / 2));
    for (size_t i = 0; i < count; i++)
        out[i] = ldexp(x[i], -exponent);
    return exponent;
}

/* Refuses what is no Gram matrix, and makes g exactly symmetric. */
void check_gram(double *g, size_t b)
{
    for (size_t i = 0; i < b; i++) {
        if (g[i * b + i] < 0)
            refuse("gram: G[%zu][%zu] is %g, which is negative", i, i, g[i * b + i]);
        for (size_t j = 0; j < i; j++) {
            double upper = g[j * b + i], lower = g[i * b + j];
            double tolerance = 1e-5 * sqrt(g[i * b + i]) * sqrt(g[j * b + j]);
            if ((g[i * b + i] == 0 || g[j * b + j] == 0) && (upper != 0 || lower != 0))
                refuse("gram: G[%zu][%zu] is %g, but its row or column has a diagonal of 0", i, j, lower);
            if (!(fabs(lower - upper) <= tolerance))
                refuse("gram: not symmetric: G[%zu][%zu] is %g, G[%zu][%zu] is %g", i, j, lower, j, i, upper);
            if (lower != upper)
                g[i * b + j] = g[j * b + i] = lower / 2 + upper / 2; /* the sum may overflow */
        }
    }
}

/* H = G + lambda I, below (1), as M'M: Cholesky, from the last row up. */
static void factorise(struct layer *layer)
{
    size_t b = layer->b;
    double trace = 0;
    for (size_t j = 0; j < b; j++)
        trace += layer->g[j * b + j];
    double lambda = trace > 0 ? layer->task->damping * (trace / (double)b) : 1;
    if (!isfinite(lambda))
        refuse("damping: %g times the mean of the diagonal is too large", layer->task->damping);
    for (size_t k = b; k-- > 0;)
        for (size_t i = k + 1; i-- > 0;) {
            double sum = layer->g[k * b + i] + (i == k ? lambda : 0);
            for (size_t l = k + 1; l < b; l++)
                sum -= layer->m[l * b + k] * layer->m[l * b + i];
            if (i == k && !(sum >= DBL_MIN && isfinite(sum)))
                refuse("gram: G + lambda I is not positive definite: pivot %zu is %g, damping %g", k, sum,
                       layer->task->damping);
            layer->m[k * b + i] = i == k ? sqrt(sum) : sum / layer->m[k * b + k];
        }
}

/* ---- "The k smallest": sorted by value, ties to the lower row-major index ---- */

struct entry {
    double value;
    size_t at;
};

static int compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static void sort(struct entry *entries, size_t count)
{
    qsort(entries, count, sizeof *entries, compare);
}

static void mark_smallest(unsigned char *mask, struct entry *entries, size_t count, size_t k)
{
    sort(entries, count);
    for (size_t i = 0; i < k; i++)
        mask[entries[i].at] = 1;
}

/* ---- Scores, always of the current weights W + D ---- */

static double score(const struct layer *layer, size_t i, size_t j)
{
    size_t at = i * layer->b + j;
    double size = fabs(layer->w[at] + layer->d[at]);
    if (layer->task->method == MAGNITUDE)
        return size;
    if (layer->task->method == SPARSEGPT) { /* W^2 / U_jj^2, and U = M^-T has the diagonal 1 / M_jj */
        double root = size * layer->m[j * layer->b + j];
        return root * root;
    }
    return size * layer->norm[j]; /* (2) */
}

/* The k smallest scores of rows [i1, i2) and columns [j1, j2). */
static void mark_weights(struct layer *layer, size_t i1, size_t i2, size_t j1, size_t j2, size_t k)
{
    size_t count = 0;
    struct entry *entries = allocate((i2 - i1) * (j2 - j1), sizeof *entries);
    for (size_t i = i1; i < i2; i++)
        for (size_t j = j1; j < j2; j++)
            entries[count++] = (struct entry){score(layer, i, j), i * layer->b + j};
    mark_smallest(layer->mask, entries, count, k);
    free(entries);
}

/* n of every group in columns [j1, j2), (4). */
static void mark_groups(struct layer *layer, size_t j1, size_t j2)
{
    size_t m = layer->task->m;
    for (size_t i = 0; i < layer->c; i++)
        for (size_t j = j1; j < j2 && !layer->outlier[i]; j += m)
            mark_weights(layer, i, i + 1, j, j + m, layer->task->n);
}

/* The k columns of [j1, j2) of the least sum of scores (section 6), or for Thanos of squares (5). */
static void mark_columns(struct layer *layer, size_t j1, size_t j2, size_t k)
{
    struct entry *entries = allocate(j2 - j1, sizeof *entries);
    unsigned char *chosen = allocate(layer->b, 1);
    for (size_t j = j1; j < j2; j++) {
        double sum = 0;
        for (size_t i = 0; i < layer->c; i++) {
            double w = layer->w[i * layer->b + j];
            if (!layer->outlier[i])
                sum += layer->task->method == THANOS ? w * w : score(layer, i, j);
        }
        if (layer->task->method == THANOS)
            sum *= layer->g[j * layer->b + j];
        entries[j - j1] = (struct entry){sum, j};
    }
    mark_smallest(chosen, entries, j2 - j1, k);
    for (size_t i = 0; i < layer->c; i++)
        for (size_t j = j1; j < j2; j++)
            layer->mask[i * layer->b + j] = chosen[j] && !layer->outlier[i];
    free(entries);
    free(chosen);
}

/* The rows of largest h_i = W_i G W_i' (section 2). */
static void find_outliers(struct layer *layer)
{
    size_t b = layer->b, count = (size_t)ceil_times(&layer->task->alpha, layer->c);
    struct entry *entries = allocate(layer->c, sizeof *entries);
    for (size_t i = 0; i < layer->c; i++) {
        const double *w = layer->w + i * b;
        double h = 0;
        for (size_t j = 0; j < b; j++) {
            double sum = 0;
            for (size_t l = 0; l < b; l++)
                sum += w[l] * layer->g[l * b + j];
            h += sum * w[j];
        }
        entries[i] = (struct entry){-h, i};
    }
    mark_smallest(layer->outlier, entries, layer->c, count);
    free(entries);
}

/* ---- Updates ---- */

/* E_ik, see (*), without its last term where last is 0. */
static double error(const struct layer *layer, size_t i, size_t k, int last)
{
    const double *d = layer->d + i * layer->b, *m = layer->m + k * layer->b;
    double sum = 0;
    for (size_t l = 0; l < k + (last ? 1 : 0); l++)
        sum += d[l] * m[l];
    return sum;
}

/* Moves the free columns [j1, j2) of row i to where they are best, whatever has happened to the columns before. */
static void predict(struct layer *layer, size_t i, size_t j1, size_t j2)
{
    for (size_t k = j1; k < j2; k++)
        layer->d[i * layer->b + k] = -error(layer, i, k, 0) / layer->m[k * layer->b + k];
}

static void predict_rows(struct layer *layer, size_t j1, size_t j2)
{
    for (size_t i = 0; i < layer->c; i++)
        if (!layer->outlier[i])
            predict(layer, i, j1, j2);
}

struct least_squares {
    size_t j1, n, f; /* the block is [j1, j1 + n); f kept columns */
    size_t *kept;    /* f column numbers, ascending */
    double *q, *l;   /* q: f columns, each of n numbers; l: f x f, lower triangular */
    double *e, *y;   /* n; f */
};

static struct least_squares new_least_squares(size_t n)
{
    return (struct least_squares){.kept = allocate(n, sizeof(size_t)), .q = allocate(n, n * sizeof(double)),
                                  .l = allocate(n, n * sizeof(double)), .e = allocate(n, sizeof(double)),
                                  .y = allocate(n, sizeof(double))};
}

static void free_least_squares(struct least_squares *ls)
{
    free(ls->kept);
    free(ls->q);
    free(ls->l);
    free(ls->e);
    free(ls->y);
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* y becomes y minus s x; returns s, the part of y that points to the unit vector x. */
static double project_out(const double *x, double *y, size_t n)
{
    double s = dot(x, y, n);
    for (size_t i = 0; i < n; i++)
        y[i] -= s * x[i];
    return s;
}

/* The kept columns of M_kk as Q L with orthonormal columns Q: modified Gram-Schmidt, last column first. Then column k has its
   M_kk in a row where all columns after it are 0, and no column can lose its length. */
static void factorise_kept(const struct layer *layer, struct least_squares *ls)
{
    size_t n = ls->n, f = ls->f;
    for (size_t k = f; k-- > 0;) {
        double *column = ls->q + k * n;
        for (size_t r = 0; r < n; r++)
            column[r] = layer->m[(ls->j1 + r) * layer->b + ls->kept[k]];
        for (size_t t = f; t-- > k + 1;)
            ls->l[t * f + k] = project_out(ls->q + t * n, column, n);
        ls->l[k * f + k] = sqrt(dot(column, column, n));
        for (size_t r = 0; r < n; r++)
            column[r] /= ls->l[k * f + k];
    }
}

/* (6) for row i: D_iq = -W_iq, and the kept columns move so as to minimise ||E_k||^2. */
static void update_row(struct layer *layer, size_t i, struct least_squares *ls)
{
    double *d = layer->d + i * layer->b;
    for (size_t j = ls->j1; j < ls->j1 + ls->n; j++)
        if (layer->mask[i * layer->b + j])
            d[j] = -layer->w[i * layer->b + j];
    for (size_t r = 0; r < ls->n; r++)
        ls->e[r] = error(layer, i, ls->j1 + r, 1);
    for (size_t k = ls->f; k-- > 0;)
        ls->y[k] = project_out(ls->q + k * ls->n, ls->e, ls->n);
    for (size_t k = 0; k < ls->f; k++) {
        ls->y[k] = (ls->y[k] - dot(ls->l + k * ls->f, ls->y, k)) / ls->l[k * ls->f + k];
        d[ls->kept[k]] -= ls->y[k];
    }
}

/* All rows of a block whose mask is set. Rows that remove the same columns as the row before share its factors. */
static void update_block(struct layer *layer, size_t j1, size_t j2)
{
    size_t b = layer->b, n = j2 - j1;
    const unsigned char *factorised = NULL;
    struct least_squares ls = new_least_squares(n);
    ls.j1 = j1, ls.n = n;
    for (size_t i = 0; i < layer->c; i++) {
        const unsigned char *mask = layer->mask + i * b + j1;
        if (!memchr(mask, 1, n))
            continue; /* nothing is lost: stays as predicted */
        if (!factorised || memcmp(factorised, mask, n)) {
            ls.f = 0;
            for (size_t j = j1; j < j2; j++)
                if (!mask[j - j1])
                    ls.kept[ls.f++] = j;
            factorise_kept(layer, &ls);
            factorised = mask;
        }
        update_row(layer, i, &ls);
    }
    free_least_squares(&ls);
}

/* ---- Methods ---- */

/* (3): of the r smallest of all columns from j1 on, those in the block. Returns how many they are. */
static size_t mark_residual(struct layer *layer, size_t j1, size_t j2, size_t r)
{
    size_t count = 0, marked = 0, b = layer->b;
    struct entry *entries = allocate(layer->c * (b - j1), sizeof *entries);
    for (size_t i = 0; i < layer->c; i++)
        for (size_t j = j1; j < b; j++)
            entries[count++] = (struct entry){score(layer, i, j), i * b + j};
    sort(entries, count);
    for (size_t k = 0; k < r; k++)
        if (entries[k].at % b < j2)
            marked += layer->mask[entries[k].at] = 1;
    free(entries);
    return marked;
}

static void prune_thanos(struct layer *layer)
{
    const struct task *task = layer->task;
    size_t residual = (size_t)floor_times(&task->p, layer->c * layer->b);
    if (task->kind == STRUCTURED) {
        mark_columns(layer, 0, layer->b, task->columns);
        update_block(layer, 0, layer->b);
        return;
    }
    for (size_t j1 = 0, j2; j1 < layer->b; j1 = j2) {
        j2 = layer->b - j1 < task->block ? layer->b : j1 + task->block;
        if (task->kind == SEMISTRUCTURED) {
            predict_rows(layer, j1, j2);
            mark_groups(layer, j1, j2);
        } else {
            predict_rows(layer, j1, layer->b);
            residual -= mark_residual(layer, j1, j2, residual);
        }
        update_block(layer, j1, j2);
    }
}

/* Magnitude and Wanda only zero: D_iq = -W_iq, nothing else moves. */
static void prune_by_zeroing(struct layer *layer)
{
    const struct task *task = layer->task;
    size_t c = layer->c, b = layer->b;
    if (task->kind == SEMISTRUCTURED)
        mark_groups(layer, 0, b);
    else if (task->kind == STRUCTURED)
        mark_columns(layer, 0, b, task->columns);
    else if (task->method == MAGNITUDE)
        mark_weights(layer, 0, c, 0, b, (size_t)floor_times(&task->p, c * b));
    else
        for (size_t i = 0; i < c; i++)
            mark_weights(layer, i, i + 1, 0, b, (size_t)floor_times(&task->p, b));
    for (size_t at = 0; at < c * b; at++)
        if (layer->mask[at])
            layer->d[at] = -layer->w[at];
}

static void mark_sparsegpt(struct layer *layer, size_t j1, size_t j2)
{
    const struct task *task = layer->task;
    size_t c = layer->c;
    predict_rows(layer, j1, j2);
    if (task->kind == SEMISTRUCTURED)
        mark_groups(layer, j1, j2);
    else if (task->kind == STRUCTURED)
        mark_columns(layer, j1, j2, (size_t)(ceil_times(&task->p, j2) - ceil_times(&task->p, j1)));
    else
        mark_weights(layer, 0, c, j1, j2, (size_t)(floor_times(&task->p, c * j2) - floor_times(&task->p, c * j1)));
}

/* Column by column; (6) for one weight a row is the prediction for every later column. A group of n:m is chosen when the sweep
   reaches it, so it takes the part of the block here. */
static void prune_sparsegpt(struct layer *layer)
{
    size_t b = layer->b, step = layer->task->kind == SEMISTRUCTURED ? layer->task->m : layer->task->block;
    for (size_t j1 = 0, j2; j1 < b; j1 = j2) {
        j2 = b - j1 < step ? b : j1 + step;
        mark_sparsegpt(layer, j1, j2);
        for (size_t i = 0; i < layer->c; i++)
            for (size_t j = j1, at = i * b + j1; j < j2; j++, at++) {
                predict(layer, i, j, j + 1);
                if (layer->mask[at])
                    layer->d[at] = -layer->w[at];
            }
    }
}

/* ---- The result, scaled back ---- */

/* T4: ||E_k||^2 of every block. NULL if a loss leaves the range of float64, where it would be wrong. */
static double *block_losses(const struct layer *layer, size_t *blocks, int exponent)
{
    size_t b = layer->b, block = layer->task->block;
    if (layer->task->method == THANOS && layer->task->kind == STRUCTURED)
        block = b;
    *blocks = (b - 1) / block + 1;
    double *losses = allocate(*blocks, sizeof *losses);
    for (size_t i = 0; i < layer->c; i++)
        for (size_t k = 0; k < b; k++) {
            double e = error(layer, i, k, 1);
            losses[k / block] += e * e;
        }
    for (size_t k = 0; k < *blocks; k++) {
        double loss = ldexp(losses[k], exponent);
        if (losses[k] > 0 && (loss < DBL_MIN || !isfinite(loss))) {
            free(losses);
            return NULL;
        }
        losses[k] = loss;
    }
    return losses;
}

static void collect(struct layer *layer, const double *weight, int w_scale, int g_scale, struct result *result)
{
    size_t count = layer->c * layer->b;
    result->mask = layer->mask;
    result->weight = layer->w; /* reused in place, after the losses */
    result->losses = block_losses(layer, &result->blocks, 2 * w_scale + g_scale);
    for (size_t at = 0; at < count; at++) {
        if (!isfinite(layer->d[at]))
            refuse("gram: G + lambda I is too ill-conditioned, damping %g", layer->task->damping);
        if (layer->mask[at])
            result->weight[at] = 0;
        else if (layer->d[at] == 0)
            result->weight[at] = weight[at]; /* bit for bit */
        else
            result->weight[at] = ldexp(layer->w[at] + layer->d[at], w_scale);
    }
}

void prune(const struct task *task, size_t c, size_t b, const double *weight, const double *gram, struct result *result)
{
    struct layer layer = {.task = task, .c = c, .b = b, .mask = allocate(c, b), .outlier = allocate(c, 1),
                          .w = allocate(c, b * sizeof(double)), .d = allocate(c, b * sizeof(double)),
                          .g = allocate(b, b * sizeof(double)), .m = allocate(b, b * sizeof(double)),
                          .norm = allocate(b, sizeof(double))};
    int w_scale = scale(layer.w, weight, c * b, largest(weight, c * b, 1));
    int g_scale = scale(layer.g, gram, b * b, largest(gram, b * b, b + 1));
    factorise(&layer);
    for (size_t j = 0; j < b; j++)
        layer.norm[j] = sqrt(layer.g[j * b + j]);
    find_outliers(&layer);
    if (task->method == THANOS)
        prune_thanos(&layer);
    else if (task->method == SPARSEGPT)
        prune_sparsegpt(&layer);
    else
        prune_by_zeroing(&layer);
    collect(&layer, weight, w_scale, g_scale, result);
    free(layer.outlier);
    free(layer.d);
    free(layer.g);
    free(layer.m);
    free(layer.norm);
}
