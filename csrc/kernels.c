/* The functions that the package calls, and the choice of a variant for the processor.
 *
 * Nothing here knows Python or torch: plain C with the vector types of GCC and Clang.
 * `dtype` is 0 for float and 1 for double.  A function returns 0, or 1 where memory is short.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define ALIGNMENT 64
#define API __attribute__((visibility("default")))

#if defined(__x86_64__)
#define VARIANTS 3
#else
#define VARIANTS 1
#endif

#define VECTOR_BYTES 16
#define SUFFIX(x) x##_plain
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX

#if VARIANTS > 1

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VECTOR_BYTES 32
#define SUFFIX(x) x##_avx2
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
#define VECTOR_BYTES 64
#define SUFFIX(x) x##_avx512
#include "variant.inc.h"
#undef VECTOR_BYTES
#undef SUFFIX
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

static const kernels *const tables[VARIANTS][2] = {
    {&table_f32_plain, &table_f64_plain},
#if VARIANTS > 1
    {&table_f32_avx2, &table_f64_avx2},
    {&table_f32_avx512, &table_f64_avx512},
#endif
};

static int variant = 0;

/* The best variant that this processor can run. */
API int kernels_best_variant(void)
{
#if VARIANTS > 1
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    return __builtin_cpu_supports("avx512f") ? 2 : 1;
#else
    return 0;
#endif
}

/* Choose a variant, or the best one where that is more than the processor can. */
API int kernels_use_variant(int wanted)
{
    int best = kernels_best_variant();
    variant = wanted < 0 || wanted > best ? best : wanted;
    return variant;
}

/* The kernels for so many channels: no wider than they can fill. */
static const kernels *kernels_for(int dtype, int64_t channels)
{
    int best = variant;
    while (best > 0 && channels <= tables[best - 1][dtype]->lanes)
        best--;
    return tables[best][dtype];
}

static void *allocate(size_t size)
{
    return aligned_alloc(ALIGNMENT, (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
}

/* Run tasks 0 to count - 1; what each computes does not depend on who runs it. */
static int run_tasks(task run, const void *job, int64_t count, size_t scratch_size, int threads)
{
    int failed = 0;
#if defined(_OPENMP)
    if (threads > 1 && count > 1) {
#pragma omp parallel num_threads(threads) reduction(| : failed)
        {
            void *scratch = scratch_size ? allocate(scratch_size) : NULL;
            failed |= scratch_size && !scratch;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count; i++)
                if (!failed)
                    run(job, i, scratch);
            free(scratch);
        }
        return failed;
    }
#else
    (void)threads;
#endif
    void *scratch = scratch_size ? allocate(scratch_size) : NULL;
    if (scratch_size && !scratch)
        return 1;
    for (int64_t i = 0; i < count; i++)
        run(job, i, scratch);
    free(scratch);
    return failed;
}

API int kernels_conv_forward(int dtype, int threads, const conv_shape *shape, const void *x,
                         const void *weight, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    conv_job job = {.shape = shape, .x = x, .weight = weight, .out = out};
    return run_tasks(use->conv_forward, &job, shape->batch * ceil_div(shape->channels, use->lanes),
                     use->conv_scratch(shape), threads);
}

API int kernels_conv_input(int dtype, int threads, const conv_shape *shape, const void *grad,
                       const void *weight, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    conv_job job = {.shape = shape, .grad = grad, .weight = weight, .out = out};
    return run_tasks(use->conv_input, &job, shape->batch * ceil_div(shape->channels, use->lanes),
                     use->conv_scratch(shape), threads);
}

API int kernels_conv_weight(int dtype, int threads, const conv_shape *shape, const void *grad,
                        const void *x, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    int64_t blocks = ceil_div(shape->channels, use->lanes), tasks = shape->batch * blocks;
    int64_t taps = shape->kernel_h * shape->kernel_w;
    size_t number = dtype ? sizeof(double) : sizeof(float);
    void *parts = allocate((size_t)(tasks * taps * use->lanes) * number);
    if (!parts)
        return 1;
    conv_job job = {.shape = shape, .grad = grad, .x = x, .out = parts};
    int failed =
        run_tasks(use->conv_weight, &job, tasks, use->conv_scratch(shape), threads);
    for (int64_t c = 0; c < shape->channels && !failed; c++)
        for (int64_t tap = 0; tap < taps; tap++) {
            double sum = 0;
            for (int64_t image = 0; image < shape->batch; image++) {
                int64_t index = image * blocks + c / use->lanes;
                int64_t at = (index * taps + tap) * use->lanes + c % use->lanes;
                sum += dtype ? ((double *)parts)[at] : ((float *)parts)[at];
            }
            if (dtype)
                ((double *)out)[c * taps + tap] = sum;
            else
                ((float *)out)[c * taps + tap] = (float)sum;
        }
    free(parts);
    return failed;
}

/* A depthwise convolution (of max(x, 0) to rectify) to `between`, and of that a pointwise one.
 *
 * `pointwise` is (out_channels, channels); `between` is NULL where nobody wants it.
 */
API int kernels_separable_forward(int dtype, int threads, const conv_shape *shape, int rectify,
                              int64_t out_channels, const void *x, const void *depthwise,
                              const void *pointwise, void *between, void *out)
{
    const kernels *use = kernels_for(dtype, max_of(shape->channels, out_channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    int64_t width = ceil_div(out_channels, use->lanes) * use->lanes;
    void *packed = allocate((size_t)(shape->channels * width) * number);
    if (!packed)
        return 1;
    use->matrix_pack(packed, pointwise, shape->channels, out_channels, 1);
    separable_job job = {
        .conv = {.shape = shape, .x = x, .weight = depthwise, .rectify = rectify},
        .out_channels = out_channels, .packed = packed, .between = between, .out = out,
    };
    int failed = run_tasks(use->separable_forward, &job, shape->batch,
                           use->separable_scratch(shape), threads);
    free(packed);
    return failed;
}

/* The gradients of the above with respect to x and both weights; NULL for one not wanted. */
API int kernels_separable_backward(int dtype, int threads, const conv_shape *shape, int rectify,
                               int64_t out_channels, const void *grad, const void *x,
                               const void *depthwise, const void *pointwise, void *between,
                               void *grad_x, void *grad_depthwise, void *grad_pointwise)
{
    const kernels *use = kernels_for(dtype, max_of(shape->channels, out_channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    int64_t lanes = use->lanes, width = ceil_div(shape->channels, lanes) * lanes;
    int64_t taps = shape->kernel_h * shape->kernel_w, channels = shape->channels;
    size_t matrix = (size_t)(out_channels * width) * number;
    size_t parts = (size_t)(taps * width) * number, batch = (size_t)shape->batch;
    char *memory = allocate(matrix + batch * (matrix + parts));
    if (!memory)
        return 1;
    char *of_pointwise = memory + matrix, *of_depthwise = of_pointwise + batch * matrix;
    use->matrix_pack(memory, pointwise, out_channels, channels, 0);
    separable_job job = {
        .conv = {.shape = shape, .x = x, .weight = depthwise, .grad = grad, .rectify = rectify},
        .out_channels = out_channels, .packed = memory, .between = between, .out = grad_x,
        .depthwise_parts = grad_depthwise ? of_depthwise : NULL,
        .pointwise_parts = grad_pointwise ? of_pointwise : NULL,
    };
    int failed = run_tasks(use->separable_backward, &job, shape->batch,
                           use->separable_scratch(shape), threads);
    if (grad_pointwise) {
        use->parts_sum(of_pointwise, shape->batch, out_channels * width);
        size_t row = (size_t)channels * number;
        for (int64_t o = 0; o < out_channels; o++)
            memcpy((char *)grad_pointwise + (size_t)o * row,
                   of_pointwise + (size_t)(o * width) * number, row);
    }
    if (grad_depthwise) {
        use->parts_sum(of_depthwise, shape->batch, taps * width);
        for (int64_t c = 0; c < channels; c++)
            for (int64_t tap = 0; tap < taps; tap++) {
                int64_t at = (c / lanes * taps + tap) * lanes + c % lanes;
                memcpy((char *)grad_depthwise + (size_t)(c * taps + tap) * number,
                       of_depthwise + (size_t)at * number, number);
            }
    }
    free(memory);
    return failed;
}

static double read_number(int dtype, const void *from, int64_t index)
{
    return dtype ? ((const double *)from)[index] : ((const float *)from)[index];
}

static void write_number(int dtype, void *to, int64_t index, double value)
{
    if (dtype)
        ((double *)to)[index] = value;
    else
        ((float *)to)[index] = (float)value;
}

/* How many pixels fill vectors without a rest, where there are that many. */
static int64_t fold_of(const kernels *use, int64_t pixels, int64_t channels)
{
    int64_t fold = use->lanes;
    while (fold > 1 && channels * (fold / 2) % use->lanes == 0)
        fold /= 2;
    return pixels % fold ? 1 : fold;
}

static void repeat(int dtype, void *values, int64_t channels, int64_t times)
{
    size_t size = (size_t)channels * (dtype ? sizeof(double) : sizeof(float));
    for (int64_t i = 1; i < times; i++)
        memcpy((char *)values + (size_t)i * size, values, size);
}

/* Add up the parts of a channel, of which every row has several columns. */
static void add_folds(double *sums, int64_t channels, int64_t columns)
{
    for (int64_t j = channels; j < columns; j++)
        sums[j % channels] += sums[j];
}

/* From means and squares per chunk to those of each channel: two numbers per column. */
static inline void join_chunks(const int dtype, const norm_job *job, int64_t channels,
                               double *means, double *squares)
{
    int64_t columns = job->columns, chunks = ceil_div(job->rows, CHUNK);
    for (int64_t j = 0; j < columns; j++)
        means[j] = squares[j] = 0;
    /* Each part counts as often as it has rows; only the last chunk may be short. */
    for (int64_t i = 0; i < chunks; i++) {
        double rows = (double)min_of(CHUNK, job->rows - i * CHUNK);
        for (int64_t j = 0; j < columns; j++)
            means[j] += read_number(dtype, job->first, i * columns + j) * rows;
    }
    add_folds(means, channels, columns);
    for (int64_t c = 0; c < channels; c++)
        means[c] /= (double)(job->rows * (columns / channels));
    for (int64_t j = channels; j < columns; j++)
        means[j] = means[j - channels];
    for (int64_t i = 0; i < chunks; i++) {
        double rows = (double)min_of(CHUNK, job->rows - i * CHUNK);
        for (int64_t j = 0; j < columns; j++) {
            double off = read_number(dtype, job->first, i * columns + j) - means[j];
            squares[j] += read_number(dtype, job->second, i * columns + j) + off * off * rows;
        }
    }
    add_folds(squares, channels, columns);
}

/* The sum of each channel over all chunks: one number per column. */
static inline void add_chunks(const int dtype, const void *parts, int64_t chunks,
                              int64_t columns, int64_t channels, double *sums)
{
    for (int64_t j = 0; j < columns; j++)
        sums[j] = 0;
    for (int64_t i = 0; i < chunks; i++)
        for (int64_t j = 0; j < columns; j++)
            sums[j] += read_number(dtype, parts, i * columns + j);
    add_folds(sums, channels, columns);
}

static void sum_chunks(int dtype, const void *parts, int64_t chunks, int64_t columns,
                       int64_t channels, double *sums)
{
    if (dtype)
        add_chunks(1, parts, chunks, columns, channels, sums);
    else
        add_chunks(0, parts, chunks, columns, channels, sums);
}

/* What a batch norm has to know, and the running statistics that follow, or NULL. */
typedef struct {
    double eps, momentum;
    void *mean, *var;
} norm_state;

/* From the parts of norm_moments to shift and scale of each column, times a number.
 *
 * `saved` receives the mean and 1 / sqrt(var + eps); `sums` is room for two per column.
 */
static void finish_moments(int dtype, const norm_job *job, int64_t channels,
                           const norm_state *norm, double times, double *sums, void *saved)
{
    int64_t fold = job->columns / channels;
    double *means = sums, *squares = sums + job->columns, momentum = norm->momentum;
    double pixels = (double)(job->rows * fold);
    void *shifts = (void *)job->shift, *scales = (void *)job->scale;
    if (dtype)
        join_chunks(1, job, channels, means, squares);
    else
        join_chunks(0, job, channels, means, squares);
    for (int64_t c = 0; c < channels; c++) {
        double mean = means[c], inverse = 1 / sqrt(squares[c] / pixels + norm->eps);
        write_number(dtype, saved, c, mean);
        write_number(dtype, saved, channels + c, inverse);
        write_number(dtype, shifts, c, mean);
        write_number(dtype, scales, c, inverse * times);
        if (norm->mean) {
            double var = squares[c] / (pixels - 1);
            double old_mean = read_number(dtype, norm->mean, c);
            double old_var = read_number(dtype, norm->var, c);
            write_number(dtype, norm->mean, c, momentum * mean + (1 - momentum) * old_mean);
            write_number(dtype, norm->var, c, momentum * var + (1 - momentum) * old_var);
        }
    }
    repeat(dtype, shifts, channels, fold);
    repeat(dtype, scales, channels, fold);
}

/* y = scale * (x - mean) / sqrt(var + eps) of a matrix (pixels, channels).
 *
 * `scale` is one number, or NULL for 1.  `running` are the mean and the variance that follow
 * with `momentum`, or NULL.  `saved` (2, channels) receives the mean and 1 / sqrt(var + eps).
 */
API int kernels_norm_forward(int dtype, int threads, int64_t pixels, int64_t channels, double eps,
                         double momentum, const void *x, const void *scale, void *running_mean,
                         void *running_var, void *saved, void *out)
{
    const kernels *use = tables[variant][dtype];
    int64_t fold = fold_of(use, pixels, channels), columns = channels * fold;
    int64_t rows = pixels / fold, chunks = ceil_div(rows, CHUNK);
    size_t number = dtype ? sizeof(double) : sizeof(float);
    size_t column = (size_t)columns * number;
    char *memory = allocate((size_t)(2 * chunks + 2) * column + 2 * columns * sizeof(double));
    if (!memory)
        return 1;
    void *means = memory, *squares = memory + (size_t)chunks * column;
    void *shifts = memory + (size_t)(2 * chunks) * column;
    void *scales = memory + (size_t)(2 * chunks + 1) * column;
    double *totals = (double *)(memory + (size_t)(2 * chunks + 2) * column);
    norm_job job = {.rows = rows, .columns = columns, .x = x, .shift = shifts, .scale = scales,
                    .out = out, .first = means, .second = squares};
    run_tasks(use->norm_moments, &job, chunks, 0, threads);
    norm_state norm = {eps, momentum, running_mean, running_var};
    double times = scale ? read_number(dtype, scale, 0) : 1.0;
    finish_moments(dtype, &job, channels, &norm, times, totals, saved);
    run_tasks(use->norm_apply, &job, chunks, 0, threads);
    free(memory);
    return 0;
}

/* The gradients of the above with respect to x and to scale; NULL for one not wanted. */
API int kernels_norm_backward(int dtype, int threads, int64_t pixels, int64_t channels,
                          const void *grad, const void *x, const void *scale, const void *saved,
                          void *grad_x, void *grad_scale)
{
    const kernels *use = tables[variant][dtype];
    int64_t fold = fold_of(use, pixels, channels), columns = channels * fold;
    int64_t rows = pixels / fold, chunks = ceil_div(rows, CHUNK);
    size_t number = dtype ? sizeof(double) : sizeof(float);
    size_t column = (size_t)columns * number;
    char *memory = allocate((size_t)(2 * chunks + 4) * column + 2 * columns * sizeof(double));
    if (!memory)
        return 1;
    void *sums = memory, *dots = memory + (size_t)chunks * column;
    char *per_column = memory + (size_t)(2 * chunks) * column;
    void *shifts = per_column, *scales = per_column + column;
    void *slopes = per_column + 2 * column, *offsets = per_column + 3 * column;
    double *totals = (double *)(per_column + 4 * column);
    memcpy(shifts, saved, (size_t)channels * number);
    repeat(dtype, shifts, channels, fold);
    norm_job job = {.rows = rows, .columns = columns, .x = x, .grad = grad, .shift = shifts,
                    .scale = scales, .slope = slopes, .offset = offsets, .out = grad_x,
                    .first = sums, .second = dots};
    run_tasks(use->norm_sums, &job, chunks, 0, threads);
    sum_chunks(dtype, sums, chunks, columns, channels, totals);
    sum_chunks(dtype, dots, chunks, columns, channels, totals + columns);
    double times = scale ? read_number(dtype, scale, 0) : 1.0, along_scale = 0;
    for (int64_t c = 0; c < channels; c++) {
        double sum = totals[c], dot = totals[columns + c];
        double inverse = read_number(dtype, saved, channels + c);
        along_scale += inverse * dot;
        write_number(dtype, scales, c, inverse * times);
        write_number(dtype, offsets, c, sum / (double)pixels);
        write_number(dtype, slopes, c,
                     times * inverse * inverse * inverse * dot / (double)pixels);
    }
    if (grad_scale)
        write_number(dtype, grad_scale, 0, along_scale);
    if (grad_x) {
        repeat(dtype, scales, channels, fold);
        repeat(dtype, slopes, channels, fold);
        repeat(dtype, offsets, channels, fold);
        run_tasks(use->norm_input, &job, chunks, 0, threads);
    }
    free(memory);
    return 0;
}

/* Means over 3x3 pixels at stride 1, of those inside of the map; or the gradient of x. */
API int kernels_average_pool(int dtype, int threads, int64_t batch, int64_t height,
                             int64_t width, int64_t channels, int transposed, const void *x,
                             void *out)
{
    const kernels *use = kernels_for(dtype, channels);
    size_t size = (size_t)(width * channels) * (dtype ? sizeof(double) : sizeof(float));
    void *zeros = allocate(size);
    if (!zeros)
        return 1;
    memset(zeros, 0, size);
    pool_job job = {height, width, channels, transposed, x, zeros, out};
    run_tasks(use->pool_row, &job, batch * height, 0, threads);
    free(zeros);
    return 0;
}

#include "sums.inc.h"
