// A convolution or a pool as numbers: what the drivers compute from. Sizes are validated before they come here.
#pragma once

#include <cstdint>

namespace backlit {

// a / b, rounded up; b is positive.
inline int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// One spatial axis: output position o reads, at tap k, input position stride*o + dilation*k - pad, if there is one.
struct Axis {
    int64_t input = 1, output = 1, kernel = 1, stride = 1, dilation = 1;
    int64_t pad = 0;  // at the low end; negative where it crops
};

// Distances in elements between neighbours in an array (N, C, *spatial) or (N, *spatial, C).
struct Strides {
    int64_t batch, channel, axis[3];
};

// Distances in elements between neighbours in weights (K, C/groups, *kernel) or (*kernel, C/groups, K).
struct WeightStrides {
    int64_t filter, channel, tap[3];
};

struct Problem {
    int64_t batch = 0, in_channels = 1, out_channels = 1, groups = 1;
    Axis axis[3];  // depth, height, width; an axis that the problem lacks has size, kernel and stride 1
    bool channels_last = false;

    int64_t group_inputs() const { return in_channels / groups; }
    int64_t group_outputs() const { return out_channels / groups; }
    int64_t taps() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
    int64_t inputs() const { return axis[0].input * axis[1].input * axis[2].input; }      // positions of a sample
    int64_t outputs() const { return axis[0].output * axis[1].output * axis[2].output; }  // positions of a sample
    // Multiplications of a pass where no padding is read.
    double multiplications() const {
        return static_cast<double>(batch) * static_cast<double>(outputs()) * static_cast<double>(taps()) *
               static_cast<double>(out_channels) * static_cast<double>(group_inputs());
    }

    Strides input_strides() const { return strides(in_channels, inputs(), axis[1].input, axis[2].input); }
    Strides output_strides() const { return strides(out_channels, outputs(), axis[1].output, axis[2].output); }
    WeightStrides weight_strides() const {
        const int64_t height = axis[1].kernel, width = axis[2].kernel, c = group_inputs();
        if (channels_last)
            return {1, out_channels, {height * width * c * out_channels, width * c * out_channels, c * out_channels}};
        return {c * taps(), taps(), {height * width, width, 1}};
    }

  private:
    Strides strides(int64_t channels, int64_t positions, int64_t height, int64_t width) const {
        if (channels_last) return {positions * channels, 1, {height * width * channels, width * channels, channels}};
        return {positions * channels, positions, {height * width, width, 1}};
    }
};

}  // namespace backlit
