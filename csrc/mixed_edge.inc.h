/* Mixed edges whose candidates all read one source, for one type of number and width of vectors.
 *
 * A task is an image, which goes through all candidates while it is in the cache: the source
 * is read once, and what has to be stored are the maps before a norm and the sum.  Comes after
 * weighted_sum.inc.h, average_pool.inc.h, winograd.inc.h and padding.inc.h, whose names it uses.
 */

/* Bytes for the padded source, a padded gradient, the domain of tiles and one plain image. */
static size_t NAME(edge_scratch)(const edge_job *job)
{
    tiling t = tiling_of(job->height, job->width);
    int64_t blocks = ceil_div(job->inputs, LANES), wide = ceil_div(job->channels, LANES);
    int64_t tiles = SPOTS * (SPOT_SIZE(blocks) + SPOT_SIZE(wide));
    int64_t image = job->height * job->width * max_of(blocks, wide);
    return (size_t)(NAME(padded_size)(&t, job->inputs) + NAME(padded_size)(&t, job->channels)
                    + tiles + image + job->width * blocks)
           * sizeof(VEC);
}

/* A convolution of a padded map to an image, or onto it. */
static void NAME(convolve)(int kind, const VEC *padded, const tiling *t, int64_t inputs,
                           const VEC *packed, int64_t channels, REAL *out, int onto, VEC *scratch,
                           ahead *next)
{
    int64_t step = ceil_div(inputs, LANES) * LANES;
    if (kind == SQUARE)
        NAME(winograd)((const REAL *)padded, t, inputs, packed, channels, out, onto, scratch, next);
    else
        for (int64_t y = 0; y < t->height; y++)
            NAME(multiply)(NAME(row_of)(padded, t, inputs, y), step, t->width, inputs, packed,
                           channels, out + y * t->width * channels, onto);
}

/* What an image needs, if there is one of that number. */
static ahead NAME(ahead_of)(const edge_job *job, int64_t image, int backward)
{
    ahead next = {.count = 0};
    size_t pixels = (size_t)(job->height * job->width) * sizeof(REAL);
    size_t size = pixels * (size_t)job->channels, source = pixels * (size_t)job->inputs;
    if (image < 0 || image >= job->batch)
        return next;
    look_ahead(&next, (const char *)job->x + (size_t)image * source, source);
    if (backward)
        look_ahead(&next, (const char *)job->grad + (size_t)image * size, size);
    for (int64_t k = 0; k < job->count; k++)
        if (is_conv(job->kinds[k]))
            look_ahead(&next, (const char *)job->maps[k] + (size_t)image * size, size);
    return next;
}

/* The maps of all convolutions, and their mean and sum of squares around it. */
static void NAME(edge_maps)(const void *data, int64_t index, void *scratch)
{
    const edge_job *job = data;
    tiling t = tiling_of(job->height, job->width);
    int64_t pixels = t.height * t.width, channels = job->channels;
    VEC *padded = scratch, *rest = padded + NAME(padded_size)(&t, job->inputs);
    NAME(clear_border)(padded, &t, job->inputs);
    NAME(pad_rectified)((const REAL *)job->x + index * pixels * job->inputs, job->inputs, &t,
                        padded);
    ahead next = NAME(ahead_of)(job, index + 1, 0);
    for (int64_t k = 0; k < job->count; k++) {
        if (!is_conv(job->kinds[k]))
            continue;
        REAL *map = (REAL *)job->maps[k] + index * pixels * channels;
        NAME(convolve)(job->kinds[k], padded, &t, job->inputs, job->packed[k], channels, map, 0,
                       rest, &next);
        if (!job->normalised[k])
            continue;
        int64_t at = (k * job->batch + index) * channels, c = 0;
        REAL *first = (REAL *)job->first + at, *second = (REAL *)job->second + at;
        for (; c + LANES <= channels; c += LANES)
            NAME(moments_of)(map + c, pixels, channels, LANES, first + c, second + c);
        if (c < channels)
            NAME(moments_of)(map + c, pixels, channels, channels - c, first + c, second + c);
    }
}

static pool_job NAME(pooling)(const edge_job *job, int transposed)
{
    return (pool_job){job->height, job->width, job->inputs, transposed, NULL, job->zeros, NULL};
}

/* out = sum of (what candidate k makes of x - shift) * scale.
 *
 * The images come in turned order: those that edge_maps had last are in the cache still.
 */
static void NAME(edge_sum)(const void *data, int64_t index, void *scratch)
{
    const edge_job *job = data;
    index = job->batch - 1 - index;
    pool_job pool = NAME(pooling)(job, 0);
    int64_t step = job->channels, size = job->width * step, full = step / LANES * LANES;
    const void *rows[MAX_TERMS];
    sum_job sum = {.rows = job->width, .columns = step, .count = job->count, .maps = rows,
                   .shift = job->shift, .scale = job->scale};
    for (int64_t y = 0; y < job->height; y++) {
        int64_t at = (index * job->height + y) * size;
        const REAL *x = (const REAL *)job->x + at;
        for (int64_t k = 0; k < job->count; k++) {
            rows[k] = is_conv(job->kinds[k]) ? (const REAL *)job->maps[k] + at : x;
            if (job->kinds[k] != POOLED)
                continue;
            NAME(pool_to)(&pool, y, x, scratch);
            rows[k] = scratch;
        }
        sum.out = (REAL *)job->out + at;
        for (int64_t c = 0; c < full; c += LANES)
            NAME(add_to)(&sum, 0, job->width, c, LANES);
        if (full < step)
            NAME(add_to)(&sum, 0, job->width, full, step - full);
    }
}

INLINE void NAME(edge_dots_of)(const edge_job *job, int64_t index, const REAL *pooled, int64_t c,
                               int64_t lanes)
{
    int64_t pixels = job->height * job->width, step = job->channels;
    int64_t at = index * pixels * step + c;
    const REAL *grad = (const REAL *)job->grad + at;
    NAME(column_sums)(grad, pixels, step, lanes, (REAL *)job->sums + index * step + c);
    for (int64_t k = 0; k < job->count; k++) {
        if (!job->measured[k])
            continue;
        const REAL *map = (const REAL *)(is_conv(job->kinds[k]) ? job->maps[k] : job->x) + at;
        if (job->kinds[k] == POOLED)
            map = pooled + c;
        NAME(column_dots)(map, grad, (const REAL *)job->shift + k * step + c, pixels, step, lanes,
                          (REAL *)job->dots + (k * job->batch + index) * step + c);
    }
}

/* Sums of grad, and of grad * (what candidate k makes of x - shift) where it is measured. */
static void NAME(edge_dots)(const void *data, int64_t index, void *scratch)
{
    const edge_job *job = data;
    int64_t step = job->channels, size = job->width * step, c = 0;
    REAL *pooled = scratch;
    for (int64_t k = 0; k < job->count; k++) {
        if (job->kinds[k] != POOLED || !job->measured[k])
            continue;
        pool_job pool = NAME(pooling)(job, 0);
        for (int64_t y = 0; y < job->height; y++)
            NAME(pool_to)(&pool, y, (const REAL *)job->x + (index * job->height + y) * size,
                          pooled + y * size);
        break; /* It is the same for all of them. */
    }
    for (; c + LANES <= step; c += LANES)
        NAME(edge_dots_of)(job, index, pooled, c, LANES);
    if (c < step)
        NAME(edge_dots_of)(job, index, pooled, c, step - c);
}

/* Where x > 0 what came back through the convolutions, and onto that the other gradients. */
INLINE void NAME(join_row)(const REAL *x, const REAL *back, const REAL *grad, REAL same,
                           const REAL *unpooled, REAL pooled, int64_t count, REAL *out)
{
    const int64_t lanes = LANES;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        VEC value = {0};
        if (back)
            value = NAME(cleared)(LOAD(back + i), LOAD(x + i) <= 0);
        if (same != 0)
            value += LOAD(grad + i) * same;
        if (unpooled)
            value += LOAD(unpooled + i) * pooled;
        STORE(out + i, value);
    }
    for (; i < count; i++) {
        REAL value = back && !(x[i] <= 0) ? back[i] : 0;
        value += same != 0 ? grad[i] * same : 0;
        out[i] = unpooled ? value + unpooled[i] * pooled : value;
    }
}

static void NAME(join_image)(const edge_job *job, int64_t image, const REAL *back, REAL *row)
{
    int64_t size = job->width * job->inputs;
    REAL same = 0, pooled = 0;
    for (int64_t k = 0; k < job->count; k++) {
        REAL scale = ((const REAL *)job->scale)[k * job->channels];
        same += job->kinds[k] == SAME ? scale : 0;
        pooled += job->kinds[k] == POOLED ? scale : 0;
    }
    pool_job pool = NAME(pooling)(job, 1);
    for (int64_t y = 0; y < job->height; y++) {
        int64_t at = (image * job->height + y) * size;
        /* Without such candidates the channels may differ, and nothing of it is read. */
        const REAL *grad = (const REAL *)job->grad + at;
        if (pooled != 0)
            NAME(pool_to)(&pool, y, grad, row);
        NAME(join_row)((const REAL *)job->x + at, back ? back + y * size : NULL, grad, same,
                       pooled != 0 ? row : NULL, pooled, size, (REAL *)job->out + at);
    }
}

/* The gradient of x, and the parts of those of the weights that some images have. */
static void NAME(edge_input)(const void *data, int64_t index, void *scratch)
{
    const edge_job *job = data;
    tiling t = tiling_of(job->height, job->width);
    int64_t pixels = t.height * t.width, inputs = job->inputs, channels = job->channels;
    int64_t blocks = ceil_div(inputs, LANES), wide = ceil_div(channels, LANES), learns = 0;
    VEC *padded = scratch, *slopes = padded + NAME(padded_size)(&t, inputs);
    VEC *back = slopes + NAME(padded_size)(&t, channels), *row = back + pixels * blocks;
    VEC *rest = row + t.width * blocks;
    for (int64_t k = 0; k < job->count; k++) {
        if (!job->parts[k])
            continue;
        learns = 1;
        int64_t size = (job->kinds[k] == SQUARE ? SPOTS : 1) * inputs * wide;
        NAME(clear)((VEC *)job->parts[k] + index * size, size);
    }
    NAME(clear_border)(padded, &t, inputs);
    NAME(clear_border)(slopes, &t, channels);
    /* Those that edge_dots had last come first. */
    int64_t last = job->batch - 1 - index * job->images;
    for (int64_t image = last; image > max_of(-1, last - job->images); image--) {
        int onto = 0;
        ahead next = NAME(ahead_of)(job, image - 1, 1);
        if (learns)
            NAME(pad_rectified)((const REAL *)job->x + image * pixels * inputs, inputs, &t, padded);
        for (int64_t k = 0; k < job->count; k++) {
            if (!job->packed[k] && !job->parts[k])
                continue;
            NAME(pad_slopes)(job, k, image, &t, slopes);
            VEC *sums = job->parts[k];
            if (sums && job->kinds[k] == SQUARE)
                NAME(winograd_weight)((const REAL *)padded, inputs, (const REAL *)slopes, channels,
                                      &t, sums + index * SPOTS * inputs * wide, rest);
            else if (sums) /* The borders of the gradient are zero, and add nothing. */
                NAME(multiply_outer)(NAME(row_of)(padded, &t, inputs, 0), inputs, blocks * LANES,
                                     NAME(row_of)(slopes, &t, channels, 0), wide * LANES,
                                     wide * LANES, (t.height - 1) * t.line + t.width,
                                     sums + index * inputs * wide, 1);
            if (!job->packed[k] || !job->out)
                continue;
            NAME(convolve)(job->kinds[k], slopes, &t, channels, job->packed[k], inputs,
                           (REAL *)back, onto, rest, &next);
            onto = 1;
        }
        if (job->out)
            NAME(join_image)(job, image, onto ? (REAL *)back : NULL, (REAL *)row);
    }
}

/* Vectors of a packed weight. */
static int64_t NAME(packed_size)(int kind, const layout *of)
{
    return (kind == SQUARE ? SPOTS : 1) * of->inner * ceil_div(of->columns, LANES);
}

static void NAME(edge_pack)(int kind, void *packed, const void *weight, const layout *of)
{
    int64_t wide = ceil_div(of->columns, LANES);
    if (kind == SQUARE)
        NAME(winograd_pack)(packed, weight, of);
    else
        for (int64_t i = 0; i < of->inner * wide; i++)
            NAME(gather)((VEC *)packed + i, 1, weight, of, i / wide, i % wide * LANES);
}

static void NAME(edge_unpack)(int kind, void *weight, const void *packed, const layout *of)
{
    int64_t wide = ceil_div(of->columns, LANES);
    if (kind == SQUARE)
        NAME(winograd_unpack)(weight, packed, of);
    else
        for (int64_t i = 0; i < of->inner * wide; i++)
            NAME(scatter)(weight, (const VEC *)packed + i, 1, of, i / wide, i % wide * LANES);
}
#undef SPOTS
#undef SPOT_SIZE
