/* Batch norms, as the package calls them, and what all norms share; a part of kernels.c. */
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
    int64_t columns = job->columns, chunks = ceil_div(job->rows, job->chunk);
    for (int64_t j = 0; j < columns; j++)
        means[j] = squares[j] = 0;
    /* Each part counts as often as it has rows; only the last chunk may be short. */
    for (int64_t i = 0; i < chunks; i++) {
        double rows = (double)min_of(job->chunk, job->rows - i * job->chunk);
        for (int64_t j = 0; j < columns; j++)
            means[j] += read_number(dtype, job->first, i * columns + j) * rows;
    }
    add_folds(means, channels, columns);
    for (int64_t c = 0; c < channels; c++)
        means[c] /= (double)(job->rows * (columns / channels));
    for (int64_t j = channels; j < columns; j++)
        means[j] = means[j - channels];
    for (int64_t i = 0; i < chunks; i++) {
        double rows = (double)min_of(job->chunk, job->rows - i * job->chunk);
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
    char *memory = borrow(JOB, (size_t)(2 * chunks + 2) * column + 2 * columns * sizeof(double));
    if (!memory)
        return 1;
    void *means = memory, *squares = memory + (size_t)chunks * column;
    void *shifts = memory + (size_t)(2 * chunks) * column;
    void *scales = memory + (size_t)(2 * chunks + 1) * column;
    double *totals = (double *)(memory + (size_t)(2 * chunks + 2) * column);
    norm_job job = {.rows = rows, .columns = columns, .chunk = CHUNK, .x = x, .shift = shifts,
                    .scale = scales, .out = out, .first = means, .second = squares};
    run_tasks(use->norm_moments, &job, chunks, 0, threads);
    norm_state norm = {eps, momentum, running_mean, running_var};
    double times = scale ? read_number(dtype, scale, 0) : 1.0;
    finish_moments(dtype, &job, channels, &norm, times, totals, saved);
    run_tasks(use->norm_apply, &job, chunks, 0, threads);
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
    char *memory = borrow(JOB, (size_t)(2 * chunks + 4) * column + 2 * columns * sizeof(double));
    if (!memory)
        return 1;
    void *sums = memory, *dots = memory + (size_t)chunks * column;
    char *per_column = memory + (size_t)(2 * chunks) * column;
    void *shifts = per_column, *scales = per_column + column;
    void *slopes = per_column + 2 * column, *offsets = per_column + 3 * column;
    double *totals = (double *)(per_column + 4 * column);
    memcpy(shifts, saved, (size_t)channels * number);
    repeat(dtype, shifts, channels, fold);
    norm_job job = {.rows = rows, .columns = columns, .chunk = CHUNK, .x = x, .grad = grad,
                    .shift = shifts, .scale = scales, .slope = slopes, .offset = offsets,
                    .out = grad_x, .first = sums, .second = dots};
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
    return 0;
}
