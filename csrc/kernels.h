/* What the variants of the kernels have in common: sizes, tasks and the table of functions.
 *
 * Every map has its channels last: (batch, height, width, channels), dense.
 */
#ifndef MMRAZOR_MUTATORS_KERNELS_H
#define MMRAZOR_MUTATORS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define MAX_KERNEL 8 /* Most rows or columns of a depthwise kernel. */
#define MAX_STRIDE 2
#define CHUNK 128 /* Pixels of one partial sum of a batch norm. */
#define TILES_AT_ONCE 16 /* Tiles of a 3x3 convolution that go through its domain together. */

/* A depthwise convolution of x (batch, height, width, channels) to y. */
typedef struct {
    int64_t batch, channels, height, width, out_height, out_width;
    int64_t kernel_h, kernel_w, stride_h, stride_w;
    int64_t padding_h, padding_w, dilation_h, dilation_w;
} conv_shape;

typedef struct {
    const conv_shape *shape;
    const void *x, *weight, *grad;
    void *out;
    int rectify; /* Whether x counts as max(x, 0); its gradient is that of x all the same. */
} conv_job;

/* A depthwise convolution to `between`, and a matrix for each pixel of that. */
typedef struct {
    conv_job conv; /* `grad` is that of the end, `out` is not used. */
    int64_t out_channels;
    const void *packed; /* The matrix, as matrix_pack leaves it. */
    void *between, *out;
    void *depthwise_parts, *pointwise_parts; /* Of gradients, one for each image, or NULL. */
} separable_job;

/* A map seen as a matrix of pixels; a row of it holds `fold` pixels, a partial sum `chunk` rows. */
typedef struct {
    int64_t rows, columns, chunk;
    const void *x, *grad, *shift, *scale, *slope, *offset;
    void *out, *first, *second;
} norm_job;

/* `count` maps of which some are normalised before they are summed up.
 *
 * shift, scale and slope are (count, columns), dots (count, chunks, columns); an entry of
 * outs is NULL for a gradient that is not wanted, and `measured` is 0 for a dot product.
 */
typedef struct {
    int64_t rows, columns, count, chunks;
    const void *const *maps;
    const void *shift, *scale, *slope, *offset, *grad;
    const char *measured, *normalised;
    void *const *outs;
    void *out, *sums, *dots;
} sum_job;

/* A mean over 3x3 pixels of x (batch, height, width, channels), or its transposed operation. */
typedef struct {
    int64_t height, width, channels;
    int transposed;
    const void *x, *zeros; /* A row of zeros. */
    void *out;
} pool_job;

/* How a map (height, width) is cut into tiles of 2x2 pixels.
 *
 * It lies in a padded one, which has a border of zeros and `line` pixels in a row.
 */
typedef struct {
    int64_t height, width, rows, columns, line;
} tiling;

/* Where the numbers of a weight lie that a map with `inner` channels is multiplied by. */
typedef struct {
    int64_t inner, columns, inner_step, column_step, row_step, tap_step;
} layout;

/* What the candidates of a mixed edge make of its source x (batch, height, width, inputs). */
enum { SAME, POOLED, POINTWISE, SQUARE };
#define MAX_TERMS 64
#define WEIGHT_PARTS 8 /* Most parts that the gradient of a weight is made of. */
static inline int is_conv(int kind) { return kind == POINTWISE || kind == SQUARE; }

/* A weighted sum of that: x itself, its mean over 3x3 pixels, and 1x1 and 3x3 convolutions of
 * max(x, 0), normalised over the batch.
 *
 * shift, scale and slope are (count, channels), offset (channels); first, second and dots
 * (count, batch, channels), sums (batch, channels).  What is of another kind of candidate, or
 * not wanted, is NULL.
 */
typedef struct {
    int64_t batch, height, width, inputs, channels, count;
    int64_t images; /* Those of a task that adds up gradients of weights. */
    const char *kinds, *normalised, *measured;
    const void *x, *grad, *shift, *scale, *slope, *offset, *zeros;
    const void *const *packed;
    void *const *maps, *const *parts;
    void *first, *second, *sums, *dots, *out;
} edge_job;

/* What the next task will read and write: the memory brings it while this one computes. */
#define MAX_AHEAD 8
typedef struct {
    const char *from[MAX_AHEAD];
    size_t size[MAX_AHEAD]; /* In bytes. */
    size_t part, parts;     /* Each call of `fetch` asks for one of so many parts. */
    int count;
} ahead;

static inline void look_ahead(ahead *next, const void *from, size_t size)
{
    if (next->count == MAX_AHEAD)
        return;
    next->from[next->count] = from;
    next->size[next->count++] = size;
}

static inline void fetch(ahead *next)
{
    if (next->part == next->parts)
        return;
    for (int k = 0; k < next->count; k++) {
        size_t size = next->size[k] / next->parts + 1, first = next->part * size;
        for (size_t at = first; at < first + size && at < next->size[k]; at += 64)
            __builtin_prefetch(next->from[k] + at, 0, 2);
    }
    next->part++;
}

/* A task has its own number, and memory that it shares with no other one at a time. */
typedef void (*task)(const void *job, int64_t index, void *scratch);

typedef struct {
    int64_t lanes;
    size_t (*conv_scratch)(const conv_shape *shape);
    task conv_forward, conv_input, conv_weight;
    void (*matrix_pack)(void *packed, const void *matrix, int64_t inner, int64_t columns,
                        int transposed);
    size_t (*separable_scratch)(const conv_shape *shape);
    task separable_forward, separable_backward;
    void (*parts_sum)(void *parts, int64_t number, int64_t size);
    task norm_moments, norm_apply, norm_sums, norm_input;
    task sum_apply, sum_dots, sum_input;
    task pool_row;
    size_t (*edge_scratch)(const edge_job *job);
    task edge_maps, edge_sum, edge_dots, edge_input;
    int64_t (*packed_size)(int kind, const layout *of);
    void (*edge_pack)(int kind, void *packed, const void *weight, const layout *of);
    void (*edge_unpack)(int kind, void *weight, const void *packed, const layout *of);
} kernels;

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline tiling tiling_of(int64_t height, int64_t width)
{
    int64_t rows = ceil_div(height, 2), columns = ceil_div(width, 2);
    return (tiling){height, width, rows, columns, 2 * columns + 2};
}
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

#endif
