/* Maps with a border of zeros, in whole vectors: nothing that reads them looks at borders.
 *
 * Comes after vectors.inc.h, whose names it uses.
 */

/* Vectors of an image with a border of zeros. */
static int64_t NAME(padded_size)(const tiling *t, int64_t channels)
{
    return (2 * t->rows + 2) * t->line * ceil_div(channels, LANES);
}

/* A convolution with one tap reads rows of a padded map, of which this is where one begins. */
static const REAL *NAME(row_of)(const VEC *padded, const tiling *t, int64_t channels, int64_t row)
{
    return (const REAL *)(padded + ((row + 1) * t->line + 1) * ceil_div(channels, LANES));
}

static void NAME(clear)(VEC *to, int64_t count)
{
    VEC zero = {0};
    for (int64_t i = 0; i < count; i++)
        to[i] = zero;
}

/* Zeros for all that is not inside of a padded map. */
static void NAME(clear_border)(VEC *padded, const tiling *t, int64_t channels)
{
    int64_t blocks = ceil_div(channels, LANES), line = t->line * blocks;
    NAME(clear)(padded, line);
    for (int64_t y = 0; y < t->height; y++) {
        VEC *row = padded + (y + 1) * line;
        NAME(clear)(row, blocks);
        NAME(clear)(row + (t->width + 1) * blocks, line - (t->width + 1) * blocks);
    }
    NAME(clear)(padded + (t->height + 1) * line, (2 * t->rows + 1 - t->height) * line);
}

INLINE void NAME(pad_columns)(const REAL *x, int64_t channels, const tiling *t, int64_t c,
                              int64_t lanes, VEC *padded)
{
    int64_t blocks = ceil_div(channels, LANES);
    for (int64_t y = 0; y < t->height; y++) {
        const REAL *from = x + y * t->width * channels + c;
        VEC *to = padded + ((y + 1) * t->line + 1) * blocks + c / LANES;
        for (int64_t i = 0; i < t->width; i++)
            to[i * blocks] = NAME(rectified)(LOAD(from + i * channels));
    }
}

/* max(x, 0) of an image to a padded map, of which the border is there. */
static void NAME(pad_rectified)(const REAL *x, int64_t channels, const tiling *t, VEC *padded)
{
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        NAME(pad_columns)(x, channels, t, c, LANES, padded);
    if (c < channels)
        NAME(pad_columns)(x, channels, t, c, channels - c, padded);
}

INLINE void NAME(slope_columns)(const edge_job *job, int64_t k, int64_t image, const tiling *t,
                                int64_t c, int64_t lanes, VEC *padded)
{
    int64_t channels = job->channels, wide = ceil_div(channels, LANES);
    int64_t start = image * t->height * t->width * channels;
    VEC scale = LOAD((const REAL *)job->scale + k * channels + c);
    VEC shift = LOAD((const REAL *)job->shift + k * channels + c);
    VEC slope = LOAD((const REAL *)job->slope + k * channels + c);
    VEC base = LOAD((const REAL *)job->offset + c);
    for (int64_t y = 0; y < t->height; y++) {
        int64_t at = start + y * t->width * channels + c;
        const REAL *grad = (const REAL *)job->grad + at, *map = (const REAL *)job->maps[k] + at;
        VEC *to = padded + ((y + 1) * t->line + 1) * wide + c / LANES;
        if (job->normalised[k])
            for (int64_t i = 0; i < t->width; i++)
                to[i * wide] = (LOAD(grad + i * channels) - base) * scale
                               - (LOAD(map + i * channels) - shift) * slope;
        else
            for (int64_t i = 0; i < t->width; i++)
                to[i * wide] = LOAD(grad + i * channels) * scale;
    }
}

/* The gradient of the map of candidate k to a padded map, of which the border is there. */
static void NAME(pad_slopes)(const edge_job *job, int64_t k, int64_t image, const tiling *t,
                             VEC *padded)
{
    int64_t c = 0;
    for (; c + LANES <= job->channels; c += LANES)
        NAME(slope_columns)(job, k, image, t, c, LANES, padded);
    if (c < job->channels)
        NAME(slope_columns)(job, k, image, t, c, job->channels - c, padded);
}

