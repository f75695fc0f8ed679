/* Mixed edges, as the package calls them; a part of kernels.c.
 *
 * `sizes` are batch, height, width, channels of the source and of the output.  Everything else
 * is per candidate.  Only convolutions have a weight, whose four steps (output, input, row,
 * column) are in `strides`, and a map; only normalised ones have an `eps` above 0 and a row of
 * `saved` (count, 2, channels): mean and 1 / sqrt(var + eps).
 */

static edge_job edge_of(const int64_t *sizes, int64_t count, const char *kinds, const void *x)
{
    return (edge_job){.batch = sizes[0], .height = sizes[1], .width = sizes[2],
                      .inputs = sizes[3], .channels = sizes[4], .count = count, .kinds = kinds,
                      .x = x};
}

/* Where the numbers of a weight lie, seen from its input, or turned round from its output. */
static layout layout_of(const edge_job *job, const int64_t *strides, int turned)
{
    if (turned)
        return (layout){job->channels, job->inputs, strides[0], strides[1], -strides[2],
                        -strides[3]};
    return (layout){job->inputs, job->channels, strides[1], strides[0], strides[2], strides[3]};
}

/* Bytes of the packed weight of candidate k. */
static size_t packed_bytes(int dtype, const kernels *use, const edge_job *job, int64_t k,
                           const layout *of)
{
    size_t number = dtype ? sizeof(double) : sizeof(float);
    return (size_t)(use->packed_size(job->kinds[k], of) * use->lanes) * number;
}

/* Pack all weights that there are; returns NULL where memory is short. */
static void *pack_weights(int dtype, const kernels *use, const edge_job *job,
                          const void *const *weights, const int64_t *strides, int turned,
                          const void **packed)
{
    size_t number = dtype ? sizeof(double) : sizeof(float), total = 0, at = 0;
    for (int64_t k = 0; k < job->count; k++) {
        layout of = layout_of(job, strides + 4 * k, turned);
        total += weights[k] ? packed_bytes(dtype, use, job, k, &of) : 0;
    }
    char *memory = borrow(WEIGHTS, total);
    for (int64_t k = 0; k < job->count && memory; k++) {
        layout of = layout_of(job, strides + 4 * k, turned);
        packed[k] = NULL;
        if (!weights[k])
            continue;
        int64_t last = job->kinds[k] == SQUARE ? 2 : 0;
        int64_t corner = turned ? last * (strides[4 * k + 2] + strides[4 * k + 3]) : 0;
        use->edge_pack(job->kinds[k], memory + at,
                       (const char *)weights[k] + corner * (int64_t)number, &of);
        packed[k] = memory + at;
        at += packed_bytes(dtype, use, job, k, &of);
    }
    return memory;
}

/* The sum of all candidates, the maps before the norms, and what the norms found. */
API int kernels_edge_forward(int dtype, int threads, const int64_t *sizes, int64_t count,
                             const char *kinds, const void *x, const void *const *weights,
                             const int64_t *strides, const void *const *factors,
                             const double *eps, const double *momentum, void *const *means,
                             void *const *vars, void *const *maps, void *saved, void *out)
{
    edge_job job = edge_of(sizes, count, kinds, x);
    int64_t channels = job.channels;
    const kernels *use = kernels_for(dtype, max_of(job.inputs, channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    size_t row = (size_t)channels * number, parts = (size_t)(count * job.batch) * row;
    size_t zeros = (size_t)(job.width * job.inputs) * number;
    const void *packed[MAX_TERMS];
    char normalised[MAX_TERMS];
    if (!pack_weights(dtype, use, &job, weights, strides, 0, packed))
        return 1;
    char *memory = borrow(JOB, 2 * parts + 2 * (size_t)count * row + zeros
                            + 2 * (size_t)channels * sizeof(double));
    if (!memory)
        return 1;
    double *totals = (double *)memory;
    char *first = memory + 2 * (size_t)channels * sizeof(double), *second = first + parts;
    char *shifts = second + parts, *scales = shifts + (size_t)count * row;
    char *zero = scales + (size_t)count * row;
    memset(zero, 0, zeros);
    for (int64_t k = 0; k < count; k++)
        normalised[k] = eps[k] > 0;
    job.packed = packed;
    job.normalised = normalised;
    job.maps = maps;
    job.first = first;
    job.second = second;
    job.shift = shifts;
    job.scale = scales;
    job.zeros = zero;
    job.out = out;
    size_t scratch = use->edge_scratch(&job);
    int failed = run_tasks(use->edge_maps, &job, job.batch, scratch, threads);
    for (int64_t k = 0; k < count && !failed; k++) {
        char *shift = shifts + (size_t)k * row, *scale = scales + (size_t)k * row;
        double factor = read_number(dtype, factors[k], 0);
        int64_t pixels = job.height * job.width;
        norm_job norm = {.rows = job.batch * pixels, .columns = channels, .chunk = pixels,
                         .first = first + (size_t)(k * job.batch) * row,
                         .second = second + (size_t)(k * job.batch) * row,
                         .shift = shift, .scale = scale};
        norm_state state = {eps[k], momentum[k], means[k], vars[k]};
        if (normalised[k]) {
            finish_moments(dtype, &norm, channels, &state, factor, totals,
                           (char *)saved + 2 * (size_t)k * row);
        } else {
            fill(dtype, shift, channels, 0);
            fill(dtype, scale, channels, factor);
        }
    }
    if (!failed)
        failed = run_tasks(use->edge_sum, &job, job.batch, scratch, threads);
    return failed;
}

/* Add up the parts of the gradients of the weights, and write them where they belong. */
static void join_weights(const kernels *use, const edge_job *job, int64_t tasks,
                         const int64_t *strides, void *const *grad_weights)
{
    for (int64_t k = 0; k < job->count; k++) {
        if (!job->parts[k])
            continue;
        layout of = layout_of(job, strides + 4 * k, 0);
        use->parts_sum(job->parts[k], tasks, use->packed_size(job->kinds[k], &of) * use->lanes);
        use->edge_unpack(job->kinds[k], grad_weights[k], job->parts[k], &of);
    }
}

/* What the images have measured to the numbers of pad_slopes, and the gradients of factors. */
static void finish_dots(int dtype, const edge_job *job, const void *const *factors,
                        const void *saved, double *totals, void *grad_factors)
{
    size_t row = (size_t)job->channels * (dtype ? sizeof(double) : sizeof(float));
    int64_t channels = job->channels;
    double pixels = (double)(job->batch * job->height * job->width);
    double *dot = totals + channels;
    sum_chunks(dtype, job->sums, job->batch, channels, channels, totals);
    for (int64_t c = 0; c < channels; c++)
        write_number(dtype, (void *)job->offset, c, totals[c] / pixels);
    for (int64_t k = 0; k < job->count; k++) {
        const char *mine = (const char *)saved + 2 * (size_t)k * row;
        double factor = read_number(dtype, factors[k], 0), along_factor = 0;
        if (job->measured[k])
            sum_chunks(dtype, (char *)job->dots + (size_t)(k * job->batch) * row, job->batch,
                       channels, channels, dot);
        for (int64_t c = 0; c < channels; c++) {
            double inverse = job->normalised[k] ? read_number(dtype, mine, channels + c) : 1;
            double along = job->measured[k] ? inverse * dot[c] : 0;
            along_factor += along;
            write_number(dtype, (char *)job->scale + (size_t)k * row, c, inverse * factor);
            write_number(dtype, (char *)job->slope + (size_t)k * row, c,
                         factor * inverse * inverse * along / pixels);
        }
        if (grad_factors)
            write_number(dtype, grad_factors, k, along_factor);
    }
}

/* The gradients of the above; NULL for one that is not wanted. */
API int kernels_edge_backward(int dtype, int threads, const int64_t *sizes, int64_t count,
                              const char *kinds, const char *normalised, const void *grad,
                              const void *x, const void *const *weights, const int64_t *strides,
                              const void *const *factors, void *const *maps, const void *saved,
                              void *grad_x, void *const *grad_weights, void *grad_factors)
{
    edge_job job = edge_of(sizes, count, kinds, x);
    int64_t channels = job.channels, measures = 0, learns = 0;
    const kernels *use = kernels_for(dtype, max_of(job.inputs, channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    size_t row = (size_t)channels * number, each = (size_t)count * row;
    size_t zeros = (size_t)(max_of(job.inputs, channels) * job.width) * number;
    size_t dots = each * (size_t)job.batch, sums = row * (size_t)job.batch, weight_parts = 0;
    int64_t tasks = min_of(job.batch, WEIGHT_PARTS);
    if (job.inputs * channels > 2048) /* Large ones take long to add up. */
        tasks = min_of(tasks, WEIGHT_PARTS / 2);
    job.images = ceil_div(job.batch, tasks);
    tasks = ceil_div(job.batch, job.images);
    char measured[MAX_TERMS];
    const void *packed[MAX_TERMS] = {NULL};
    void *parts[MAX_TERMS] = {NULL};
    for (int64_t k = 0; k < count; k++) {
        int moves = is_conv(kinds[k]) && (grad_x || grad_weights[k]);
        measured[k] = grad_factors || (normalised[k] && moves);
        measures += measured[k];
        learns += !!grad_weights[k];
        layout of = layout_of(&job, strides + 4 * k, 0);
        if (grad_weights[k])
            weight_parts += (size_t)tasks * packed_bytes(dtype, use, &job, k, &of);
    }
    if (!learns) { /* As many tasks as there can be. */
        job.images = 1;
        tasks = job.batch;
    }
    if (grad_x && !pack_weights(dtype, use, &job, weights, strides, 1, packed))
        return 1;
    char *memory = borrow(JOB, weight_parts + 2 * (size_t)channels * sizeof(double) + dots + sums
                            + 3 * each + row + zeros);
    if (!memory)
        return 1;
    char *at = memory;
    for (int64_t k = 0; k < count; k++) {
        layout of = layout_of(&job, strides + 4 * k, 0);
        if (!grad_weights[k])
            continue;
        parts[k] = at;
        at += (size_t)tasks * packed_bytes(dtype, use, &job, k, &of);
    }
    double *totals = (double *)at;
    at += 2 * (size_t)channels * sizeof(double);
    job.dots = at;
    job.sums = at + dots;
    char *shift = at + dots + sums;
    job.shift = shift;
    job.scale = shift + each;
    job.slope = shift + 2 * each;
    job.offset = shift + 3 * each;
    job.zeros = memset(shift + 3 * each + row, 0, zeros);
    job.normalised = normalised;
    job.measured = measured;
    job.grad = grad;
    job.packed = packed;
    job.parts = parts;
    job.maps = maps;
    job.out = grad_x;
    for (int64_t k = 0; k < count; k++)
        if (normalised[k])
            memcpy(shift + (size_t)k * row, (const char *)saved + 2 * (size_t)k * row, row);
        else
            memset(shift + (size_t)k * row, 0, row);
    size_t scratch = use->edge_scratch(&job);
    int failed = 0;
    if (measures)
        failed = run_tasks(use->edge_dots, &job, job.batch, scratch, threads);
    else
        memset(job.sums, 0, sums);
    if (!failed)
        finish_dots(dtype, &job, factors, saved, totals, grad_factors);
    if (!failed && (grad_x || learns))
        failed = run_tasks(use->edge_input, &job, tasks, scratch, threads);
    if (!failed)
        join_weights(use, &job, tasks, strides, grad_weights);
    return failed;
}
