// The numbers here are those of tests/sdk/latents/test_random_field.py. Never change them: another field is another scheme.
#include "srflow/latents.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "srflow/sizes.h"
#include "srflow/srflow.h"
#include "tensors.h"

namespace srflow {
namespace {

struct Window {
  std::uint64_t seed = 3, sample = 1;
  int level = 2, channels = 12;
  std::int64_t top = 0, left = 0, height = 20, width = 30;

  std::vector<float> draw() const {
    std::vector<float> out(channels * height * width, std::nanf(""));
    EXPECT_EQ(srflow_standard_normal(seed, sample, level, channels, top, left, height, width, out.data()), 0);
    return out;
  }
  int status() const {
    float number = 5.0f;
    const int result = srflow_standard_normal(seed, sample, level, channels, top, left, height, width, &number);
    EXPECT_EQ(number, 5.0f) << "was written although the arguments are out of range";
    return result;
  }
};

TEST(Philox, GivesTheKnownAnswerOfItsAuthors) {
  const PhiloxBlock block = philox4x64_10({{0, 0, 0, 0}}, 0, 0);
  EXPECT_EQ(block.word[0], 0x16554D9ECA36314Cu);
  EXPECT_EQ(block.word[1], 0xDB20FE9D672D0FDCu);
  EXPECT_EQ(block.word[2], 0xD7E772CEE186176Bu);
  EXPECT_EQ(block.word[3], 0x7E68B68AEC7BA23Bu);
}

TEST(Normal, TransformHasItsGoldenBits) {
  const std::uint32_t words[] = {0, 1, 1u << 20, 1u << 30, 1u << 31, 3973344665u, 0xffffffffu};
  const float golden[] = {-0x1.95a11ap+2f, -0x1.8aa6c8p+2f, -0x1.be596cp+1f, -0x1.5956b8p-1f,
                          0x1.40d932p-32f, 0x1.70bb0ep+0f,  0x1.95a11ap+2f};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(normal_from_word(words[i]), golden[i]) << words[i];
}

TEST(Normal, TransformIsOdd) {
  std::mt19937 engine(1);
  for (int i = 0; i < 100000; ++i) {
    const auto word = static_cast<std::uint32_t>(engine());
    ASSERT_EQ(normal_from_word(~word), -normal_from_word(word)) << word;
  }
}

TEST(Latents, FieldHasItsGoldenBits) {
  Window window;
  window.seed = window.sample = 0;
  window.level = 1, window.channels = 3, window.height = 1, window.width = 2;
  EXPECT_EQ(window.draw(), (std::vector<float>{0x1.2e47a8p-1f, 0x1.d06f16p-1f, -0x1.a044fep-2f, -0x1.7f7b24p+0f,
                                               -0x1.1a7586p+0f, -0x1.377116p-2f}));
}

TEST(Latents, AnyWindowIsCutOutOfTheSameField) {
  Window whole, part;
  whole.channels = 20;
  part.channels = 9, part.top = 7, part.left = 13, part.height = 5, part.width = 10;
  const std::vector<float> field = whole.draw(), cut = part.draw();
  std::size_t at = 0;
  for (int c = 0; c < 9; ++c) {
    for (int y = 0; y < 5; ++y) {
      for (int x = 0; x < 10; ++x) ASSERT_EQ(cut[at++], field[(c * 20 + y + 7) * 30 + x + 13]);
    }
  }
}

TEST(Latents, CoordinatesReachTo32Bits) {
  Window window;
  window.top = window.left = 0xffffffff, window.height = window.width = 1;
  for (const float number : window.draw()) EXPECT_LT(std::fabs(number), 6.34f);
}

TEST(Latents, ArgumentsOutOfRangeAreRefused) {
  const auto refused = [](auto change) {
    Window window;
    change(window);
    return window.status() == 1;
  };
  EXPECT_TRUE(refused([](Window& w) { w.level = 0; }));
  EXPECT_TRUE(refused([](Window& w) { w.level = 64; }));
  EXPECT_TRUE(refused([](Window& w) { w.channels = 0; }));
  EXPECT_TRUE(refused([](Window& w) { w.channels = 65537; }));
  EXPECT_TRUE(refused([](Window& w) { w.top = -1; }));
  EXPECT_TRUE(refused([](Window& w) { w.left = std::int64_t{1} << 32; }));
  EXPECT_TRUE(refused([](Window& w) { w.height = 0; }));
  EXPECT_TRUE(refused([](Window& w) { w.top = 0xffffffff; }));  // 20 rows from here on exceed the field
  EXPECT_TRUE(refused([](Window& w) { w.width = std::numeric_limits<std::int64_t>::max(); }));
  // Within the field, but more bytes than memory can have: their number overflows.
  EXPECT_TRUE(refused([](Window& w) { w.height = w.width = std::int64_t{1} << 32; }));
  EXPECT_TRUE(refused([](Window& w) { w.height = w.width = std::int64_t{1} << 31; }));
  EXPECT_TRUE(refused([](Window& w) { w.height = w.width = std::int64_t{1} << 23, w.channels = 65536; }));
  EXPECT_EQ(srflow_standard_normal(0, 0, 1, 1, 0, 0, 1, 1, nullptr), 1);
}

TEST(Sizes, FitIfTheirBytesCanBeCounted) {
  constexpr std::int64_t kMost = PTRDIFF_MAX / sizeof(float), kLargest = std::numeric_limits<std::int64_t>::max();
  EXPECT_TRUE(sizes_fit({}));
  EXPECT_TRUE(sizes_fit({0, 0}));
  EXPECT_TRUE(sizes_fit({kMost, 0, 1}));
  EXPECT_TRUE(sizes_fit({kMost / 6, 2, 3}));
  EXPECT_FALSE(sizes_fit({kMost / 6 + 1, 2, 3}));
  EXPECT_FALSE(sizes_fit({kMost + 1}));
  EXPECT_FALSE(sizes_fit({kLargest, kLargest, kLargest}));
  EXPECT_FALSE(sizes_fit({0, -1}));
  EXPECT_FALSE(sizes_fit({-kLargest, -kLargest}));
}

TEST(Library, KnowsItsVersion) { EXPECT_STRNE(srflow_version(), ""); }

}  // namespace
}  // namespace srflow
