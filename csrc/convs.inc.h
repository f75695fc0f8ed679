/* Depthwise and separable convolutions, as the package calls them; a part of kernels.c. */
API int kernels_conv_forward(int dtype, int threads, const conv_shape *shape, const void *x,
                         const void *weight, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    conv_job job = {.shape = shape, .x = x, .weight = weight, .out = out};
    return run_tasks(use->conv_forward, &job, shape->batch * ceil_div(shape->channels, use->lanes),
                     use->conv_scratch(shape), threads);
}

API int kernels_conv_input(int dtype, int threads, const conv_shape *shape, const void *grad,
                       const void *weight, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    conv_job job = {.shape = shape, .grad = grad, .weight = weight, .out = out};
    return run_tasks(use->conv_input, &job, shape->batch * ceil_div(shape->channels, use->lanes),
                     use->conv_scratch(shape), threads);
}

API int kernels_conv_weight(int dtype, int threads, const conv_shape *shape, const void *grad,
                        const void *x, void *out)
{
    const kernels *use = kernels_for(dtype, shape->channels);
    int64_t blocks = ceil_div(shape->channels, use->lanes), tasks = shape->batch * blocks;
    int64_t taps = shape->kernel_h * shape->kernel_w;
    size_t number = dtype ? sizeof(double) : sizeof(float);
    void *parts = borrow(JOB, (size_t)(tasks * taps * use->lanes) * number);
    if (!parts)
        return 1;
    conv_job job = {.shape = shape, .grad = grad, .x = x, .out = parts};
    int failed =
        run_tasks(use->conv_weight, &job, tasks, use->conv_scratch(shape), threads);
    for (int64_t c = 0; c < shape->channels && !failed; c++)
        for (int64_t tap = 0; tap < taps; tap++) {
            double sum = 0;
            for (int64_t image = 0; image < shape->batch; image++) {
                int64_t index = image * blocks + c / use->lanes;
                int64_t at = (index * taps + tap) * use->lanes + c % use->lanes;
                sum += dtype ? ((double *)parts)[at] : ((float *)parts)[at];
            }
            if (dtype)
                ((double *)out)[c * taps + tap] = sum;
            else
                ((float *)out)[c * taps + tap] = (float)sum;
        }
    return failed;
}

/* A depthwise convolution (of max(x, 0) to rectify) to `between`, and of that a pointwise one.
 *
 * `pointwise` is (out_channels, channels); `between` is NULL if it is not wanted.
 */
API int kernels_separable_forward(int dtype, int threads, const conv_shape *shape, int rectify,
                              int64_t out_channels, const void *x, const void *depthwise,
                              const void *pointwise, void *between, void *out)
{
    const kernels *use = kernels_for(dtype, max_of(shape->channels, out_channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    int64_t width = ceil_div(out_channels, use->lanes) * use->lanes;
    void *packed = borrow(JOB, (size_t)(shape->channels * width) * number);
    if (!packed)
        return 1;
    use->matrix_pack(packed, pointwise, shape->channels, out_channels, 1);
    separable_job job = {
        .conv = {.shape = shape, .x = x, .weight = depthwise, .rectify = rectify},
        .out_channels = out_channels, .packed = packed, .between = between, .out = out,
    };
    int failed = run_tasks(use->separable_forward, &job, shape->batch,
                           use->separable_scratch(shape), threads);
    return failed;
}

/* The gradients of the above with respect to x and both weights; NULL for one not wanted. */
API int kernels_separable_backward(int dtype, int threads, const conv_shape *shape, int rectify,
                               int64_t out_channels, const void *grad, const void *x,
                               const void *depthwise, const void *pointwise, void *between,
                               void *grad_x, void *grad_depthwise, void *grad_pointwise)
{
    const kernels *use = kernels_for(dtype, max_of(shape->channels, out_channels));
    size_t number = dtype ? sizeof(double) : sizeof(float);
    int64_t lanes = use->lanes, width = ceil_div(shape->channels, lanes) * lanes;
    int64_t taps = shape->kernel_h * shape->kernel_w, channels = shape->channels;
    size_t matrix = (size_t)(out_channels * width) * number;
    size_t parts = (size_t)(taps * width) * number, batch = (size_t)shape->batch;
    char *memory = borrow(JOB, matrix + batch * (matrix + parts));
    if (!memory)
        return 1;
    char *of_pointwise = memory + matrix, *of_depthwise = of_pointwise + batch * matrix;
    use->matrix_pack(memory, pointwise, out_channels, channels, 0);
    separable_job job = {
        .conv = {.shape = shape, .x = x, .weight = depthwise, .grad = grad, .rectify = rectify},
        .out_channels = out_channels, .packed = memory, .between = between, .out = grad_x,
        .depthwise_parts = grad_depthwise ? of_depthwise : NULL,
        .pointwise_parts = grad_pointwise ? of_pointwise : NULL,
    };
    int failed = run_tasks(use->separable_backward, &job, shape->batch,
                           use->separable_scratch(shape), threads);
    if (grad_pointwise) {
        use->parts_sum(of_pointwise, shape->batch, out_channels * width);
        size_t row = (size_t)channels * number;
        for (int64_t o = 0; o < out_channels; o++)
            memcpy((char *)grad_pointwise + (size_t)o * row,
                   of_pointwise + (size_t)(o * width) * number, row);
    }
    if (grad_depthwise) {
        use->parts_sum(of_depthwise, shape->batch, taps * width);
        for (int64_t c = 0; c < channels; c++)
            for (int64_t tap = 0; tap < taps; tap++) {
                int64_t at = (c / lanes * taps + tap) * lanes + c % lanes;
                memcpy((char *)grad_depthwise + (size_t)(c * taps + tap) * number,
                       of_depthwise + (size_t)at * number, number);
            }
    }
    return failed;
}
