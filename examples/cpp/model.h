// A bundle's graphs in ONNX Runtime. What the graphs are, their metadata say.
#ifndef UPSCALE_MODEL_H_
#define UPSCALE_MODEL_H_

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "picture.h"

constexpr std::int64_t kMostPixels = 300 * 300;  // of a photo: one piece of this size takes about 3 GB

class Model {
 public:
  // path: a bundle (encoder.onnx and sampler.onnx are used), or a fused.onnx. threads: 0 leaves the choice to ONNX
  // Runtime. cuda: on the first NVIDIA GPU. Throws std::runtime_error or Ort::Exception.
  Model(const std::string& path, int threads, bool cuda);

  // The picture, scale times as large. tau: 0 … 2. Throws std::runtime_error or Ort::Exception.
  Picture upscale(const Picture& photo, float tau, std::uint64_t seed);

  // The manifest's; a fused.onnx without one beside it has none.
  std::optional<float> default_tau() const { return default_tau_; }

 private:
  struct Graph {
    Ort::Session session;
    std::vector<std::string> inputs, outputs;
  };
  using Tensors = std::map<std::string, Ort::Value>;

  Graph load(const std::string& path, int threads, bool cuda);
  void read_metadata(const std::string& path);
  // Runs a graph on those of the tensors that are its inputs, and adds its outputs to them.
  void run(Graph& graph, Tensors& tensors);

  Ort::Env env_;
  std::vector<Graph> graphs_;  // fused, or encoder and sampler
  std::int64_t scale_ = 0, multiple_ = 0;
  std::map<int, std::int64_t> channels_;  // of the latents, by level
  std::optional<float> default_tau_;
  bool smoothed_ = false;  // the manifest's: samples are
};

#endif  // UPSCALE_MODEL_H_
