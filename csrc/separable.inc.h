/* Separable convolutions: a ReLU or none, a depthwise convolution, a matrix for each pixel.
 *
 * A task is one image, which goes through all of it while it is in the cache.  Comes after
 * depthwise.inc.h, whose names it uses.
 */

/* Rows of vectors of a matrix `from` of (inner, columns), or of its transpose. */
static void NAME(matrix_pack)(void *packed, const void *matrix, int64_t inner, int64_t columns,
                              int transposed)
{
    const REAL *from = matrix;
    REAL *to = packed;
    int64_t width = ceil_div(columns, LANES) * LANES;
    for (int64_t i = 0; i < inner; i++)
        for (int64_t j = 0; j < width; j++)
            to[i * width + j] = j >= columns ? 0
                                : transposed ? from[j * inner + i]
                                             : from[i * columns + j];
}

/* `tile` rows of a matrix times `wide` vectors of each row of a packed one. */
INLINE void NAME(multiply_tile)(const REAL *a, int64_t inner, const VEC *b, int64_t blocks,
                                const int tile, const int wide, REAL *out, int64_t columns,
                                int64_t lanes)
{
    VEC sum[TILE][2] = {{{0}}};
    for (int64_t k = 0; k < inner; k++) {
        const VEC *factor = b + k * blocks;
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] += a[t * inner + k] * factor[w];
    }
#pragma GCC unroll 16
    for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            STORE(out + t * columns + w * LANES, sum[t][w]);
}

INLINE void NAME(multiply_by)(const REAL *a, int64_t rows, int64_t inner, const VEC *b,
                              int64_t blocks, const int tile, const int wide, REAL *out,
                              int64_t columns, int64_t lanes)
{
    int64_t i = 0;
    for (; i + tile <= rows; i += tile)
        NAME(multiply_tile)(a + i * inner, inner, b, blocks, tile, wide, out + i * columns,
                            columns, lanes);
    for (; i + 4 <= rows; i += 4)
        NAME(multiply_tile)(a + i * inner, inner, b, blocks, 4, wide, out + i * columns,
                            columns, lanes);
    for (; i < rows; i++)
        NAME(multiply_tile)(a + i * inner, inner, b, blocks, 1, wide, out + i * columns,
                            columns, lanes);
}

/* out (rows, columns) = a (rows, inner) times a packed matrix. */
static void NAME(multiply)(const REAL *a, int64_t rows, int64_t inner, const VEC *b,
                           int64_t columns, REAL *out)
{
    int64_t blocks = ceil_div(columns, LANES), full = columns / LANES, block = 0;
    for (; block + 2 <= full; block += 2)
        NAME(multiply_by)(a, rows, inner, b + block, blocks, TILE * 3 / 4, 2,
                          out + block * LANES, columns, LANES);
    for (; block < full; block++)
        NAME(multiply_by)(a, rows, inner, b + block, blocks, TILE, 1, out + block * LANES,
                          columns, LANES);
    if (block < blocks)
        NAME(multiply_by)(a, rows, inner, b + block, blocks, TILE, 1, out + block * LANES,
                          columns, columns - block * LANES);
}

/* `tile` rows, each of `wide` vectors, of the product of a transposed with b. */
INLINE void NAME(outer_tile)(const REAL *a, int64_t a_step, const REAL *b, int64_t b_step,
                             int64_t rows, const int tile, const int wide, int64_t lanes,
                             VEC *out, int64_t blocks)
{
    VEC sum[TILE][2] = {{{0}}};
    for (int64_t i = 0; i < rows; i++, a += a_step, b += b_step) {
        VEC factor[2];
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            factor[w] = LOAD(b + w * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] += a[t] * factor[w];
    }
#pragma GCC unroll 16
    for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            out[t * blocks + w] = sum[t][w];
}

INLINE void NAME(outer_by)(const REAL *a, int64_t a_step, const REAL *b, int64_t b_step,
                           int64_t rows, const int tile, const int wide, int64_t lanes,
                           VEC *out, int64_t blocks)
{
    int64_t i = 0;
    for (; i + tile <= a_step; i += tile)
        NAME(outer_tile)(a + i, a_step, b, b_step, rows, tile, wide, lanes, out + i * blocks,
                         blocks);
    for (; i + 4 <= a_step; i += 4)
        NAME(outer_tile)(a + i, a_step, b, b_step, rows, 4, wide, lanes, out + i * blocks,
                         blocks);
    for (; i < a_step; i++)
        NAME(outer_tile)(a + i, a_step, b, b_step, rows, 1, wide, lanes, out + i * blocks,
                         blocks);
}

/* out (a_columns, b_columns in whole vectors) = a (rows, a_columns) transposed times b. */
static void NAME(multiply_outer)(const REAL *a, int64_t a_columns, const REAL *b,
                                 int64_t b_columns, int64_t rows, VEC *out)
{
    int64_t blocks = ceil_div(b_columns, LANES), full = b_columns / LANES, block = 0;
    for (; block + 2 <= full; block += 2)
        NAME(outer_by)(a, a_columns, b + block * LANES, b_columns, rows, TILE / 2, 2, LANES,
                       out + block, blocks);
    for (; block < full; block++)
        NAME(outer_by)(a, a_columns, b + block * LANES, b_columns, rows, TILE, 1, LANES,
                       out + block, blocks);
    if (block < blocks)
        NAME(outer_by)(a, a_columns, b + block * LANES, b_columns, rows, TILE, 1,
                       b_columns - block * LANES, out + block, blocks);
}

/* Bytes that a task needs: those of a depthwise convolution, and an image of its output. */
static size_t NAME(separable_scratch)(const conv_shape *s)
{
    int64_t image = s->out_height * s->out_width * s->channels;
    return NAME(conv_scratch)(s) + (size_t)ceil_div(image, LANES) * sizeof(VEC);
}

/* out of one image, and what is between both convolutions where it is wanted. */
static void NAME(separable_forward)(const void *data, int64_t index, void *scratch)
{
    const separable_job *job = data;
    const conv_shape *s = job->conv.shape;
    int64_t pixels = s->out_height * s->out_width;
    REAL *between = (REAL *)((char *)scratch + NAME(conv_scratch)(s));
    if (job->between)
        between = (REAL *)job->between + index * pixels * s->channels;
    conv_job conv = job->conv;
    conv.x = (const REAL *)conv.x + index * s->height * s->width * s->channels;
    conv.out = between;
    for (int64_t block = 0; block < ceil_div(s->channels, LANES); block++)
        NAME(conv_forward)(&conv, block, scratch);
    NAME(multiply)(between, pixels, s->channels, job->packed, job->out_channels,
                   (REAL *)job->out + index * pixels * job->out_channels);
}

/* The gradient of one image, and its part in those of the weights. */
static void NAME(separable_backward)(const void *data, int64_t index, void *scratch)
{
    const separable_job *job = data;
    const conv_shape *s = job->conv.shape;
    int64_t pixels = s->out_height * s->out_width, blocks = ceil_div(s->channels, LANES);
    int64_t start = index * s->height * s->width * s->channels;
    const REAL *grad = (const REAL *)job->conv.grad + index * pixels * job->out_channels;
    if (job->pointwise_parts)
        NAME(multiply_outer)(grad, job->out_channels,
                             (const REAL *)job->between + index * pixels * s->channels,
                             s->channels, pixels,
                             (VEC *)job->pointwise_parts + index * job->out_channels * blocks);
    if (!job->out && !job->depthwise_parts)
        return;
    conv_job conv = job->conv;
    REAL *inner = (REAL *)((char *)scratch + NAME(conv_scratch)(s));
    NAME(multiply)(grad, pixels, job->out_channels, job->packed, s->channels, inner);
    conv.grad = inner;
    conv.x = (const REAL *)conv.x + start;
    for (int64_t block = 0; block < blocks; block++) {
        if (job->out) {
            conv.out = (REAL *)job->out + start;
            NAME(conv_input)(&conv, block, scratch);
        }
        if (job->depthwise_parts) {
            conv.out = (VEC *)job->depthwise_parts
                       + index * blocks * s->kernel_h * s->kernel_w;
            NAME(conv_weight)(&conv, block, scratch);
        }
    }
}

/* parts[0] = the sum of `number` parts of `size` numbers each, made in double precision. */
static void NAME(parts_sum)(void *parts, int64_t number, int64_t size)
{
    REAL *to = parts;
    for (int64_t i = 0; i < size; i += TILE) {
        double sum[TILE] = {0};
        int64_t count = min_of(TILE, size - i);
        for (int64_t part = 0; part < number; part++) {
            const REAL *from = to + part * size + i;
            if (count == TILE)
                for (int64_t j = 0; j < TILE; j++)
                    sum[j] += from[j];
            else
                for (int64_t j = 0; j < count; j++)
                    sum[j] += from[j];
        }
        for (int64_t j = 0; j < count; j++)
            to[i + j] = (REAL)sum[j];
    }
}
