/* Separable convolutions: a ReLU or none, a depthwise convolution, a matrix for each pixel.
 *
 * A task is one image, which goes through all of it while it is in the cache.  Comes after
 * depthwise.inc.h and matrices.inc.h, whose names it uses.
 */

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
    NAME(multiply)(between, s->channels, pixels, s->channels, job->packed, job->out_channels,
                   (REAL *)job->out + index * pixels * job->out_channels, 0);
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
        NAME(multiply_outer)(grad, job->out_channels, job->out_channels,
                             (const REAL *)job->between + index * pixels * s->channels,
                             s->channels, s->channels, pixels,
                             (VEC *)job->pointwise_parts + index * job->out_channels * blocks, 0);
    if (!job->out && !job->depthwise_parts)
        return;
    conv_job conv = job->conv;
    REAL *inner = (REAL *)((char *)scratch + NAME(conv_scratch)(s));
    NAME(multiply)(grad, job->out_channels, pixels, job->out_channels, job->packed, s->channels,
                   inner, 0);
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
