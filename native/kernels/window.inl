// Windows over channels-last arrays, lanes along the channels: how a kernel that computes a block of pixels by lanes
// is spread over all pixels and all channels.

namespace backlit {
namespace {

// All channels of `pixels` pixels, from pixel p on. The last vector of channels overlaps the one before: what is
// computed twice is the same both times.
template <class Job, int lanes, int pixels>
BACKLIT_INLINE void window_channels(const Job& job, int64_t p) {
    const int64_t channels = job.window.channels;
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) job.template block<lanes, pixels>(p, c);
    if (c < channels) job.template block<lanes, pixels>(p, channels - lanes);
}

template <class Job, int lanes, int pixels>
BACKLIT_INLINE void window_group(const Job& job, int64_t p, int64_t size) {
    if constexpr (pixels > 1) {
        if (size < pixels) return window_group<Job, lanes, pixels - 1>(job, p, size);
    }
    window_channels<Job, lanes, pixels>(job, p);
}

// Pixels in nearly equal groups of at most Job::most, with the widest vectors that the channels fill.
template <class Job, int lanes>
void window_pixels(const Job& job) {
    if constexpr (lanes > 1) {
        if (job.window.channels < lanes) return window_pixels<Job, lanes / 2>(job);
    }
    const int64_t pixels = job.window.pixels, groups = (pixels + Job::most - 1) / Job::most;
    for (int64_t g = 0, p = 0; g < groups; ++g) {
        const int64_t size = (pixels - p + groups - g - 1) / (groups - g);
        window_group<Job, lanes, Job::most>(job, p, size);
        p += size;
    }
}

}  // namespace
}  // namespace backlit
