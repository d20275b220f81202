// Windows over channels-last arrays, lanes along the channels: how a kernel that computes a block of pixels by lanes
// is spread over all pixels and all channels.

namespace backlit {
namespace {

// Asks for what the same pixels of the next row will read first and write: channels lie far apart, and processors see
// no stream in them.
template <int pixels, class T>
BACKLIT_INLINE void window_ahead(const Window& w, const T* in, T* out, int64_t p, int64_t c) {
    if (w.rows == 0 || w.out_next == 0) return;
    const int64_t from = w.row_at[w.rows - 1] + w.column_at[w.columns / 2];
    for (int m = 0; m < pixels; ++m) {
        const int64_t at = from + (p + m) * w.in_step, to = (p + m) * w.out_step + w.out_next;
        __builtin_prefetch(in + (at + w.in_next) * w.channels + c, 0, 2);
        if (w.in_step == 2) {  // two new rows, and the pixels between these
            __builtin_prefetch(in + (at + 1 + w.in_next) * w.channels + c, 0, 2);
            __builtin_prefetch(in + (at + w.in_next / 2) * w.channels + c, 0, 2);
            __builtin_prefetch(in + (at + 1 + w.in_next / 2) * w.channels + c, 0, 2);
        }
        __builtin_prefetch(out + to * w.channels + c, 1, 2);
    }
}

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

// Pixels in nearly equal groups of at most Job::most (two by narrow vectors), with the widest vectors that the channels
// fill.
template <class Job, int lanes>
void window_pixels(const Job& job) {
    if constexpr (lanes > 1) {
        if (job.window.channels < lanes) return window_pixels<Job, lanes / 2>(job);
    }
    constexpr int most = lanes * sizeof(job.out[0]) == BACKLIT_BYTES ? Job::most : 2;
    const int64_t pixels = job.window.pixels, groups = (pixels + most - 1) / most;
    for (int64_t g = 0, p = 0; g < groups; ++g) {
        const int64_t size = (pixels - p + groups - g - 1) / (groups - g);
        window_group<Job, lanes, most>(job, p, size);
        p += size;
    }
}

}  // namespace
}  // namespace backlit
