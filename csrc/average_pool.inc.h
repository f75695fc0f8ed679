/* The mean over 3x3 pixels at stride 1, for one type of number and one width of vectors.
 *
 * Only pixels inside of the map count, by rows times columns.  So the sums over rows and over
 * columns come one after the other, and the transposed operation divides before it adds up.
 * A task is a row of the output.  Comes after batch_norm.inc.h, whose names it uses.
 */
INLINE VEC NAME(pool_column)(const REAL *const *rows, const REAL *factors, int64_t at,
                             int64_t lanes)
{
    return LOAD(rows[0] + at) * factors[0] + LOAD(rows[1] + at) * factors[1]
           + LOAD(rows[2] + at) * factors[2];
}

/* The first and the last column count `ends` times: on their way in if transposed, or out. */
INLINE void NAME(pool_columns)(int64_t width, int64_t step, const REAL *const *rows,
                               const REAL *factors, const int transposed, int64_t lanes,
                               REAL *out)
{
    REAL ends = (REAL)3 / (REAL)min_of(2, width), before = transposed ? ends : 1;
    REAL after = transposed ? 1 : ends;
    VEC left = {0}, middle = NAME(pool_column)(rows, factors, 0, lanes) * before, right = {0};
    for (int64_t i = 0; i + 2 < width; i++) {
        right = NAME(pool_column)(rows, factors, (i + 1) * step, lanes);
        VEC sum = (left + middle) + right;
        STORE(AT(out, i), sum * (i ? 1 : after));
        left = middle;
        middle = right;
    }
    if (width > 1) {
        right = NAME(pool_column)(rows, factors, (width - 1) * step, lanes) * before;
        VEC sum = (left + middle) + right;
        STORE(AT(out, width - 2), sum * (width > 2 ? 1 : after));
        left = middle;
        middle = right;
    }
    STORE(AT(out, width - 1), (left + middle) * after);
}

/* A row of the pooled map, where x is the same row of the input. */
static void NAME(pool_to)(const pool_job *job, int64_t row, const REAL *x, REAL *out)
{
    int64_t size = job->width * job->channels, c = 0;
    const REAL *rows[3];
    REAL factors[3], inner = (REAL)1 / 9, ends = (REAL)1 / (REAL)(3 * min_of(2, job->height));
    for (int64_t k = 0; k < 3; k++) {
        int64_t at = row + k - 1, last = job->height - 1;
        int inside = at >= 0 && at <= last;
        rows[k] = inside ? x + (k - 1) * size : job->zeros;
        /* Averages are of the row that they belong to. */
        int64_t of = job->transposed ? at : row;
        factors[k] = of == 0 || of == last ? ends : inner;
    }
    for (; c < job->channels; c += LANES) {
        const REAL *from[3] = {rows[0] + c, rows[1] + c, rows[2] + c};
        int64_t lanes = min_of(LANES, job->channels - c);
        if (lanes < LANES)
            NAME(pool_columns)(job->width, job->channels, from, factors, job->transposed, lanes,
                               out + c);
        else if (job->transposed)
            NAME(pool_columns)(job->width, job->channels, from, factors, 1, LANES, out + c);
        else
            NAME(pool_columns)(job->width, job->channels, from, factors, 0, LANES, out + c);
    }
}

static void NAME(pool_row)(const void *data, int64_t index, void *scratch)
{
    (void)scratch;
    const pool_job *job = data;
    int64_t start = index * job->width * job->channels;
    NAME(pool_to)(job, index % job->height, (const REAL *)job->x + start,
                  (REAL *)job->out + start);
}
