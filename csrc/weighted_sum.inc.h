/* Weighted sums of maps, for one type of number and one width of vectors.
 *
 * All maps of a chunk are read together, so that what they have in common is read once: the
 * output forward, its gradient backward.  Comes after batch_norm.inc.h, whose names it uses.
 */
#define SUM_ROWS 8 /* Rows whose sums stay in registers. */

INLINE void NAME(add_rows)(const sum_job *job, int64_t first, const int count, int64_t c,
                           int64_t lanes)
{
    int64_t step = job->columns;
    VEC total[SUM_ROWS] = {{0}};
    for (int64_t k = 0; k < job->count; k++) {
        const REAL *x = AT((const REAL *)job->maps[k], first) + c;
        VEC shift = LOAD(AT((const REAL *)job->shift, k) + c);
        VEC scale = LOAD(AT((const REAL *)job->scale, k) + c);
#pragma GCC unroll 8
        for (int t = 0; t < count; t++)
            total[t] += (LOAD(AT(x, t)) - shift) * scale;
    }
    REAL *out = AT((REAL *)job->out, first) + c;
#pragma GCC unroll 8
    for (int t = 0; t < count; t++)
        STORE(AT(out, t), total[t]);
}

INLINE void NAME(add_to)(const sum_job *job, int64_t first, int64_t last, int64_t c,
                         int64_t lanes)
{
    for (; first + SUM_ROWS <= last; first += SUM_ROWS)
        NAME(add_rows)(job, first, SUM_ROWS, c, lanes);
    for (; first < last; first++)
        NAME(add_rows)(job, first, 1, c, lanes);
}

/* out = sum of (map - shift) * scale. */
static void NAME(sum_apply)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const sum_job *job = data;
    int64_t first = index * CHUNK, last = min_of(first + CHUNK, job->rows);
    int64_t step = job->columns, c = 0;
    for (; c + LANES <= step; c += LANES)
        NAME(add_to)(job, first, last, c, LANES);
    if (c < step)
        NAME(add_to)(job, first, last, c, step - c);
}

INLINE void NAME(column_sums)(const REAL *grad, int64_t rows, int64_t step, int64_t lanes,
                              REAL *sums)
{
    VEC sum[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            sum[t] += LOAD(AT(grad, i + t));
    for (; i < rows; i++)
        sum[0] += LOAD(AT(grad, i));
    STORE(sums, (sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE void NAME(column_dots)(const REAL *x, const REAL *grad, const REAL *shifts, int64_t rows,
                              int64_t step, int64_t lanes, REAL *dots)
{
    VEC shift = LOAD(shifts), dot[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            dot[t] += LOAD(AT(grad, i + t)) * (LOAD(AT(x, i + t)) - shift);
    for (; i < rows; i++)
        dot[0] += LOAD(AT(grad, i)) * (LOAD(AT(x, i)) - shift);
    STORE(dots, (dot[0] + dot[1]) + (dot[2] + dot[3]));
}

INLINE void NAME(dots_of)(const sum_job *job, int64_t index, int64_t c, int64_t lanes)
{
    int64_t first = index * CHUNK, rows = min_of(CHUNK, job->rows - first);
    int64_t step = job->columns;
    const REAL *grad = AT((const REAL *)job->grad, first) + c;
    NAME(column_sums)(grad, rows, step, lanes, AT((REAL *)job->sums, index) + c);
    for (int64_t k = 0; k < job->count; k++)
        if (job->measured[k])
            NAME(column_dots)(AT((const REAL *)job->maps[k], first) + c, grad,
                              AT((const REAL *)job->shift, k) + c, rows, step, lanes,
                              AT((REAL *)job->dots, k * job->chunks + index) + c);
}

/* Sums of grad, and of grad * (map - shift) for each map that is measured. */
static void NAME(sum_dots)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const sum_job *job = data;
    int64_t step = job->columns, c = 0;
    for (; c + LANES <= step; c += LANES)
        NAME(dots_of)(job, index, c, LANES);
    if (c < step)
        NAME(dots_of)(job, index, c, step - c);
}

INLINE void NAME(scale_to)(const REAL *grad, VEC scale, int64_t rows, int64_t step,
                           int64_t lanes, REAL *out)
{
    for (int64_t i = 0; i < rows; i++)
        STORE(AT(out, i), LOAD(AT(grad, i)) * scale);
}

INLINE void NAME(inputs_of)(const sum_job *job, int64_t index, int64_t c, int64_t lanes)
{
    int64_t first = index * CHUNK, rows = min_of(CHUNK, job->rows - first);
    int64_t step = job->columns;
    const REAL *grad = AT((const REAL *)job->grad, first) + c;
    VEC base = LOAD((const REAL *)job->offset + c);
    for (int64_t k = 0; k < job->count; k++) {
        if (!job->outs[k])
            continue;
        REAL *out = AT((REAL *)job->outs[k], first) + c;
        VEC scale = LOAD(AT((const REAL *)job->scale, k) + c);
        if (!job->normalised[k]) {
            NAME(scale_to)(grad, scale, rows, step, lanes, out);
            continue;
        }
        const REAL *x = AT((const REAL *)job->maps[k], first) + c;
        VEC shift = LOAD(AT((const REAL *)job->shift, k) + c);
        VEC slope = LOAD(AT((const REAL *)job->slope, k) + c);
        for (int64_t i = 0; i < rows; i++)
            STORE(AT(out, i), (LOAD(AT(grad, i)) - base) * scale
                                  - (LOAD(AT(x, i)) - shift) * slope);
    }
}

/* outs = grad * scale, and where it is normalised
 * (grad - offset) * scale - (map - shift) * slope. */
static void NAME(sum_input)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const sum_job *job = data;
    int64_t step = job->columns, c = 0;
    for (; c + LANES <= step; c += LANES)
        NAME(inputs_of)(job, index, c, LANES);
    if (c < step)
        NAME(inputs_of)(job, index, c, step - c);
}
#undef SUM_ROWS
