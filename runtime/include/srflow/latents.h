// Latents of scheme 1, bit for bit: srflow_sdk/latents/random_field.py is the definition, and this is the same in C++ and CUDA.
//
// Host sources must be compiled without contraction (-ffp-contract=off) and without -ffast-math. On a GPU the
// operations below are never contracted, regardless of the flags.
#ifndef SRFLOW_LATENTS_H_
#define SRFLOW_LATENTS_H_

#include "srflow/target.h"

#if defined(__FAST_MATH__)
#error "srflow/latents.h: -ffast-math changes the bits of the latents; compile this source without it"
#endif
#if !defined(__CUDA_ARCH__)
#include <cmath>
#endif

namespace srflow {

constexpr int kChannelsPerBlock = 8;  // 32-bit words in a Philox block

struct PhiloxBlock {
  std::uint64_t word[4];
};

SRFLOW_HD std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#elif defined(__SIZEOF_INT128__)
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#else
  const std::uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const std::uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & 0xffffffffu);
  return a1 * b1 + (middle >> 32) + (other >> 32);
#endif
}

// Philox4x64-10 (Salmon et al., SC 2011).
SRFLOW_HD PhiloxBlock philox4x64_10(PhiloxBlock counter, std::uint64_t key0, std::uint64_t key1) {
  constexpr std::uint64_t kMultiplier0 = 0xD2E7470EE14C6C93u, kMultiplier1 = 0xCA5A826395121157u;
  std::uint64_t* c = counter.word;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t high0 = multiply_high(kMultiplier0, c[0]), low0 = kMultiplier0 * c[0];
    const std::uint64_t high1 = multiply_high(kMultiplier1, c[2]), low1 = kMultiplier1 * c[2];
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = low0;
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
  return counter;
}

// The block of channels 8·group … 8·group + 7 at (y, x): channel 8·group + j uses word j.
SRFLOW_HD PhiloxBlock latent_block(std::uint64_t seed, std::uint64_t sample, int level, std::uint64_t group,
                                   std::uint64_t y, std::uint64_t x) {
  return philox4x64_10({{x + 1, y, group, static_cast<std::uint64_t>(level)}}, seed, sample);
}
SRFLOW_HD std::uint32_t block_word(const PhiloxBlock& block, int j) {
  return static_cast<std::uint32_t>(block.word[j / 2] >> (32 * (j % 2)));
}

// Double operations that are rounded separately.
#if defined(__CUDA_ARCH__)
SRFLOW_HD double rounded_sum(double a, double b) { return __dadd_rn(a, b); }
SRFLOW_HD double rounded_product(double a, double b) { return __dmul_rn(a, b); }
SRFLOW_HD double rounded_quotient(double a, double b) { return __ddiv_rn(a, b); }
SRFLOW_HD double rounded_root(double a) { return __dsqrt_rn(a); }
#else
SRFLOW_HD double rounded_sum(double a, double b) { return a + b; }
SRFLOW_HD double rounded_product(double a, double b) { return a * b; }
SRFLOW_HD double rounded_quotient(double a, double b) { return a / b; }
SRFLOW_HD double rounded_root(double a) { return std::sqrt(a); }
#endif

// Horner's rule, highest power first.
template <int count>
SRFLOW_HD double polynomial(const double (&coefficients)[count], double x) {
  double value = coefficients[0];
  for (int index = 1; index < count; ++index) value = rounded_sum(rounded_product(value, x), coefficients[index]);
  return value;
}

// The natural logarithm of a positive normal double, by scheme 1's series.
SRFLOW_HD double series_log(double p) {
  constexpr double kSeries[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
  const std::uint64_t bits = bits_as<std::uint64_t>(p);  // frexp: p = m · 2^e, m in [0.5, 1)
  double m = bits_as<double>((bits & 0x000fffffffffffffu) | 0x3fe0000000000000u);
  double e = static_cast<double>(static_cast<std::int32_t>(bits >> 52) - 1022);
  if (m < 0.7071067811865476) {
    m = rounded_sum(m, m);
    e = rounded_sum(e, -1.0);
  }
  const double s = rounded_quotient(rounded_sum(m, -1.0), rounded_sum(m, 1.0));
  const double series = polynomial(kSeries, rounded_product(s, s));
  return rounded_sum(rounded_product(e, 0.6931471805599453), rounded_product(rounded_sum(s, s), series));
}

// Uniform 32-bit word → a probability less one half, exactly.
SRFLOW_HD double centred(std::uint32_t word) {
  const double u = rounded_product(rounded_sum(static_cast<double>(word), 0.5), 1.0 / 4294967296.0);
  return rounded_sum(u, -0.5);
}

// The inverse normal distribution (AS 241's PPND16) of such a number has two formulas: for the middle, and for the tails.
SRFLOW_HD bool in_middle(double q) { return (q < 0.0 ? -q : q) <= 0.425; }

SRFLOW_HD float normal_in_middle(double q) {
  constexpr double kA[] = {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                           4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                           1.3314166789178437745e2, 3.3871328727963666080e0};
  constexpr double kB[] = {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
                           2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
                           4.2313330701600911252e1, 1.0};
  const double r = rounded_sum(0.180625, -rounded_product(q, q));
  return static_cast<float>(rounded_product(q, rounded_quotient(polynomial(kA, r), polynomial(kB, r))));
}

SRFLOW_HD float normal_in_tail(double q) {
  constexpr double kC[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                           1.27045825245236838258e0,  3.64784832476320460504e0,  5.76949722146069140550e0,
                           4.63033784615654529590e0,  1.42343711074968357734e0};
  constexpr double kD[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                           1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
                           2.05319162663775882187e0,  1.0};
  const double p = rounded_sum(0.5, q < 0.0 ? q : -q);
  const double r = rounded_sum(rounded_root(-series_log(p)), -1.6);
  const double magnitude = rounded_quotient(polynomial(kC, r), polynomial(kD, r));
  return static_cast<float>(q < 0.0 ? -magnitude : magnitude);
}

// Uniform 32-bit word → standard normal number.
SRFLOW_HD float normal_from_word(std::uint32_t word) {
  const double q = centred(word);
  return in_middle(q) ? normal_in_middle(q) : normal_in_tail(q);
}

}  // namespace srflow

#endif  // SRFLOW_LATENTS_H_
