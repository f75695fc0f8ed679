/* Batch norms over the rows of a matrix, for one type of number and one width of vectors.
 *
 * A task is a chunk of rows.  Sums over a chunk are made in vectors of REAL, and sums over chunks
 * in double precision, always in the same order.  Comes after vectors.inc.h, whose names
 * it uses.
 */
#define AT(pointer, row) ((pointer) + (row) * step)

/* Mean of some columns, and sum of the squared differences from it. */
INLINE void NAME(moments_of)(const REAL *x, int64_t rows, int64_t step, int64_t lanes,
                             REAL *means, REAL *squares)
{
    VEC sum[4] = {{0}}, square[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            sum[t] += LOAD(AT(x, i + t));
    for (; i < rows; i++)
        sum[0] += LOAD(AT(x, i));
    VEC mean = ((sum[0] + sum[1]) + (sum[2] + sum[3])) / (REAL)rows;
    for (i = 0; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            VEC off = LOAD(AT(x, i + t)) - mean;
            square[t] += off * off;
        }
    for (; i < rows; i++) {
        VEC off = LOAD(AT(x, i)) - mean;
        square[0] += off * off;
    }
    STORE(means, mean);
    STORE(squares, (square[0] + square[1]) + (square[2] + square[3]));
}

/* first[chunk][column] is a mean, second[chunk][column] the sum of squares around it. */
static void NAME(norm_moments)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const norm_job *job = data;
    int64_t rows = min_of(job->chunk, job->rows - index * job->chunk), step = job->columns, c = 0;
    const REAL *x = AT((const REAL *)job->x, index * job->chunk);
    REAL *means = AT((REAL *)job->first, index), *squares = AT((REAL *)job->second, index);
    for (; c + LANES <= step; c += LANES)
        NAME(moments_of)(x + c, rows, step, LANES, means + c, squares + c);
    if (c < step)
        NAME(moments_of)(x + c, rows, step, step - c, means + c, squares + c);
}

INLINE void NAME(apply_to)(const norm_job *job, const REAL *x, int64_t rows, int64_t c,
                           int64_t lanes, REAL *out)
{
    int64_t step = job->columns;
    VEC scale = LOAD((const REAL *)job->scale + c), shift = LOAD((const REAL *)job->shift + c);
    for (int64_t i = 0; i < rows; i++)
        STORE(AT(out, i) + c, (LOAD(AT(x, i) + c) - shift) * scale);
}

/* out = (x - shift) * scale. */
static void NAME(norm_apply)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const norm_job *job = data;
    int64_t rows = min_of(job->chunk, job->rows - index * job->chunk), step = job->columns, c = 0;
    const REAL *x = AT((const REAL *)job->x, index * job->chunk);
    REAL *out = AT((REAL *)job->out, index * job->chunk);
    for (; c + LANES <= step; c += LANES)
        NAME(apply_to)(job, x, rows, c, LANES, out);
    if (c < step)
        NAME(apply_to)(job, x, rows, c, step - c, out);
}

INLINE void NAME(sums_of)(const REAL *x, const REAL *grad, const REAL *shifts, int64_t rows,
                          int64_t step, int64_t lanes, REAL *sums, REAL *dots)
{
    VEC shift = LOAD(shifts), sum[4] = {{0}}, dot[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            VEC slope = LOAD(AT(grad, i + t));
            sum[t] += slope;
            dot[t] += slope * (LOAD(AT(x, i + t)) - shift);
        }
    for (; i < rows; i++) {
        VEC slope = LOAD(AT(grad, i));
        sum[0] += slope;
        dot[0] += slope * (LOAD(AT(x, i)) - shift);
    }
    STORE(sums, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    STORE(dots, (dot[0] + dot[1]) + (dot[2] + dot[3]));
}

/* Sums of grad and of grad * (x - shift): first and second[chunk][column]. */
static void NAME(norm_sums)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const norm_job *job = data;
    int64_t rows = min_of(job->chunk, job->rows - index * job->chunk), step = job->columns, c = 0;
    const REAL *x = AT((const REAL *)job->x, index * job->chunk), *shift = job->shift;
    const REAL *grad = AT((const REAL *)job->grad, index * job->chunk);
    REAL *sums = AT((REAL *)job->first, index), *dots = AT((REAL *)job->second, index);
    for (; c + LANES <= step; c += LANES)
        NAME(sums_of)(x + c, grad + c, shift + c, rows, step, LANES, sums + c, dots + c);
    if (c < step)
        NAME(sums_of)(x + c, grad + c, shift + c, rows, step, step - c, sums + c, dots + c);
}

INLINE void NAME(input_to)(const norm_job *job, const REAL *x, const REAL *grad, int64_t rows,
                           int64_t c, int64_t lanes, REAL *out)
{
    int64_t step = job->columns;
    VEC scale = LOAD((const REAL *)job->scale + c), shift = LOAD((const REAL *)job->shift + c);
    VEC slope = LOAD((const REAL *)job->slope + c), base = LOAD((const REAL *)job->offset + c);
    for (int64_t i = 0; i < rows; i++)
        STORE(AT(out, i) + c, (LOAD(AT(grad, i) + c) - base) * scale
                                  - (LOAD(AT(x, i) + c) - shift) * slope);
}

/* out = (grad - offset) * scale - (x - shift) * slope. */
static void NAME(norm_input)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const norm_job *job = data;
    int64_t rows = min_of(job->chunk, job->rows - index * job->chunk), step = job->columns, c = 0;
    const REAL *x = AT((const REAL *)job->x, index * job->chunk);
    const REAL *grad = AT((const REAL *)job->grad, index * job->chunk);
    REAL *out = AT((REAL *)job->out, index * job->chunk);
    for (; c + LANES <= step; c += LANES)
        NAME(input_to)(job, x, grad, rows, c, LANES, out);
    if (c < step)
        NAME(input_to)(job, x, grad, rows, c, step - c, out);
}
