/* The weighted sums of maps, as the package calls them; a part of kernels.c.
 *
 * out = sum of weights[k] * f_k(maps[k]), where f_k is a batch norm or nothing at all.  Only
 * the norms have a row of `saved` (count, 2, channels): their mean and 1 / sqrt(var + eps).
 */
typedef struct {
    const kernels *use;
    int64_t columns, fold, chunks;
    size_t number, column; /* Bytes of a number, and of one for each column. */
} sum_plan;

static sum_plan plan_of(int dtype, int64_t pixels, int64_t channels)
{
    const kernels *use = tables[variant][dtype];
    int64_t fold = fold_of(use, pixels, channels), columns = channels * fold;
    size_t number = dtype ? sizeof(double) : sizeof(float);
    return (sum_plan){use, columns, fold, ceil_div(pixels / fold, CHUNK), number,
                      (size_t)columns * number};
}

static void fill(int dtype, void *values, int64_t count, double value)
{
    for (int64_t i = 0; i < count; i++)
        write_number(dtype, values, i, value);
}

/* Everything is per map: means and vars are running ones, and an eps of 0 means no norm. */
API int kernels_sum_forward(int dtype, int threads, int64_t pixels, int64_t channels,
                            int64_t count, const void *const *maps, const void *const *weights,
                            const double *eps, const double *momentum, void *const *means,
                            void *const *vars, void *saved, void *out)
{
    sum_plan plan = plan_of(dtype, pixels, channels);
    int64_t columns = plan.columns;
    size_t parts = (size_t)plan.chunks * plan.column;
    size_t rest = 2 * (size_t)count * plan.column;
    char *memory = borrow(JOB, 2 * parts + rest + 2 * (size_t)columns * sizeof(double));
    if (!memory)
        return 1;
    char *shifts = memory + 2 * parts, *scales = shifts + rest / 2;
    double *totals = (double *)(memory + 2 * parts + rest);
    norm_job norm = {.rows = pixels / plan.fold, .columns = columns, .chunk = CHUNK,
                     .first = memory, .second = memory + parts};
    for (int64_t k = 0; k < count; k++) {
        void *shift = shifts + (size_t)k * plan.column, *scale = scales + (size_t)k * plan.column;
        double weight = read_number(dtype, weights[k], 0);
        if (eps[k] > 0) {
            norm_state state = {eps[k], momentum[k], means[k], vars[k]};
            norm.x = maps[k];
            norm.shift = shift;
            norm.scale = scale;
            run_tasks(plan.use->norm_moments, &norm, plan.chunks, 0, threads);
            finish_moments(dtype, &norm, channels, &state, weight, totals,
                           (char *)saved + 2 * (size_t)(k * channels) * plan.number);
        } else {
            fill(dtype, shift, columns, 0);
            fill(dtype, scale, columns, weight);
        }
    }
    sum_job job = {.rows = norm.rows, .columns = columns, .count = count, .chunks = plan.chunks,
                   .maps = maps, .shift = shifts, .scale = scales, .out = out};
    run_tasks(plan.use->sum_apply, &job, plan.chunks, 0, threads);
    return 0;
}

/* The gradients of the above; NULL for one not wanted, and for a map that it does not take.
 *
 * The gradient of the weight of a map that is NULL is 0.
 */
API int kernels_sum_backward(int dtype, int threads, int64_t pixels, int64_t channels,
                             int64_t count, const void *grad, const void *const *maps,
                             const void *const *weights, const char *normalised,
                             const void *saved, void *const *grad_maps, void *grad_weights)
{
    sum_plan plan = plan_of(dtype, pixels, channels);
    int64_t columns = plan.columns, wanted = 0, measured = 0;
    size_t parts = (size_t)plan.chunks * plan.column, each = (size_t)count * plan.column;
    size_t totals_size = 2 * (size_t)columns * sizeof(double);
    char *memory = borrow(JOB, totals_size + (size_t)(count + 1) * parts + 3 * each + plan.column
                            + (size_t)count);
    if (!memory)
        return 1;
    double *totals = (double *)memory, *dot = totals + columns;
    char *sums = memory + totals_size, *dots = sums + parts;
    char *shifts = dots + (size_t)count * parts, *scales = shifts + each;
    char *slopes = scales + each, *offsets = slopes + each;
    char *is_measured = offsets + plan.column;
    for (int64_t k = 0; k < count; k++) {
        const char *mine = (const char *)saved + 2 * (size_t)(k * channels) * plan.number;
        char *shift = shifts + (size_t)k * plan.column;
        is_measured[k] = maps[k] && (normalised[k] ? grad_maps[k] || grad_weights : !!grad_weights);
        measured += is_measured[k];
        wanted += !!grad_maps[k];
        if (normalised[k]) {
            memcpy(shift, mine, (size_t)channels * plan.number);
            repeat(dtype, shift, channels, plan.fold);
        } else {
            memset(shift, 0, plan.column);
        }
    }
    sum_job job = {.rows = pixels / plan.fold, .columns = columns, .count = count,
                   .chunks = plan.chunks, .maps = maps, .shift = shifts, .scale = scales,
                   .slope = slopes, .offset = offsets, .grad = grad, .measured = is_measured,
                   .normalised = normalised, .outs = grad_maps, .sums = sums, .dots = dots};
    if (measured) {
        run_tasks(plan.use->sum_dots, &job, plan.chunks, 0, threads);
        sum_chunks(dtype, sums, plan.chunks, columns, channels, totals);
    } else {
        memset(totals, 0, (size_t)columns * sizeof(double));
    }
    for (int64_t c = 0; c < channels; c++)
        write_number(dtype, offsets, c, totals[c] / (double)pixels);
    repeat(dtype, offsets, channels, plan.fold);
    for (int64_t k = 0; k < count; k++) {
        const char *mine = (const char *)saved + 2 * (size_t)(k * channels) * plan.number;
        char *scale = scales + (size_t)k * plan.column, *slope = slopes + (size_t)k * plan.column;
        double weight = read_number(dtype, weights[k], 0), along_weight = 0;
        if (is_measured[k])
            sum_chunks(dtype, dots + (size_t)k * parts, plan.chunks, columns, channels, dot);
        for (int64_t c = 0; c < channels; c++) {
            double inverse = normalised[k] ? read_number(dtype, mine, channels + c) : 1;
            double along = is_measured[k] ? inverse * dot[c] : 0;
            along_weight += along;
            write_number(dtype, scale, c, inverse * weight);
            write_number(dtype, slope, c, weight * inverse * inverse * along / (double)pixels);
        }
        repeat(dtype, scale, channels, plan.fold);
        repeat(dtype, slope, channels, plan.fold);
        if (grad_weights)
            write_number(dtype, grad_weights, k, along_weight);
    }
    if (wanted)
        run_tasks(plan.use->sum_input, &job, plan.chunks, 0, threads);
    return 0;
}
