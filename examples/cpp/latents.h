// The random numbers of a picture: scheme 1, as srflow_sdk/latents/random_field.py defines it.
#ifndef UPSCALE_LATENTS_H_
#define UPSCALE_LATENTS_H_

#include <cstdint>
#include <vector>

// Standard normal latents of one level of a whole picture: channels × height × width, the same bits as the SDK's.
std::vector<float> standard_normal(std::uint64_t seed, int level, std::int64_t channels, std::int64_t height,
                                   std::int64_t width);

#endif  // UPSCALE_LATENTS_H_
