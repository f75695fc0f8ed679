/* The mean over 3x3 pixels at stride 1, for one type of number and one width of vectors.
 *
 * Only pixels inside of the map count, by rows times columns.  So the sums over rows and over
 * columns come one after the other, and the transposed operation divides before it adds up.
 * A task is a row of the output.  Comes after batch_norm.inc.h, whose names it uses.
 */
INLINE void NAME(pool_columns)(const pool_job *job, const REAL *const *rows, const REAL *factors,
                               REAL factor, int64_t lanes, REAL *out)
{
    int64_t step = job->channels, width = job->width;
    REAL inner = (REAL)1 / 3, edge = (REAL)1 / (REAL)min_of(2, width);
    VEC left = {0}, middle = {0}, right = {0};
    for (int64_t i = 0; i <= width; i++) {
        left = middle;
        middle = right;
        if (i < width) {
            right = LOAD(AT(rows[0], i)) * factors[0] + LOAD(AT(rows[1], i)) * factors[1]
                    + LOAD(AT(rows[2], i)) * factors[2];
            if (job->transposed)
                right *= i == 0 || i == width - 1 ? edge : inner;
        } else {
            right = (VEC){0};
        }
        if (i == 0)
            continue;
        VEC sum = ((left + middle) + right) * factor;
        if (!job->transposed)
            sum *= i == 1 || i == width ? edge : inner;
        STORE(AT(out, i - 1), sum);
    }
}

static void NAME(pool_row)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const pool_job *job = data;
    int64_t row = index % job->height, size = job->width * job->channels, c = 0;
    const REAL *x = (const REAL *)job->x + index * size, *rows[3];
    REAL factors[3], factor = 1, inner = (REAL)1 / 3, edge = (REAL)1 / (REAL)min_of(2, job->height);
    for (int64_t k = 0; k < 3; k++) {
        int64_t at = row + k - 1;
        int inside = at >= 0 && at < job->height;
        rows[k] = inside ? x + (k - 1) * size : job->zeros;
        factors[k] = job->transposed ? (at == 0 || at == job->height - 1 ? edge : inner) : 1;
    }
    if (!job->transposed)
        factor = row == 0 || row == job->height - 1 ? edge : inner;
    REAL *out = (REAL *)job->out + index * size;
    for (; c + LANES <= job->channels; c += LANES) {
        const REAL *from[3] = {rows[0] + c, rows[1] + c, rows[2] + c};
        NAME(pool_columns)(job, from, factors, factor, LANES, out + c);
    }
    if (c < job->channels) {
        const REAL *from[3] = {rows[0] + c, rows[1] + c, rows[2] + c};
        NAME(pool_columns)(job, from, factors, factor, job->channels - c, out + c);
    }
}
