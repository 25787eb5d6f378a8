#include "model.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "latents.h"

namespace {

Ort::Value tensor(std::vector<float>& values, const std::vector<std::int64_t>& shape) {
  static const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
}

// Standard error goes nowhere as long as this lives. Debian's ONNX Runtime 1.21 registers ONNX's operators twice when it
// loads its first graph, and prints 567 lines about that. Its errors are exceptions, which this does not hide.
class Quiet {
 public:
  Quiet() : kept_(dup(STDERR_FILENO)) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    close(nowhere);
  }
  ~Quiet() {
    std::fflush(stderr);
    dup2(kept_, STDERR_FILENO);
    close(kept_);
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  int kept_;
};

// As srflow-upscale --device cuda has bundles in float32, of which a fused convolution might compute parts in TF32. Throws
// Ort::Exception, also where ONNX Runtime was built without it.
void use_cuda(Ort::SessionOptions& options) {
  const OrtApi& api = Ort::GetApi();
  const char* const names[] = {"use_tf32", "cudnn_conv_algo_search"};
  const char* const values[] = {"0", "HEURISTIC"};
  OrtCUDAProviderOptionsV2* provider = nullptr;
  Ort::ThrowOnError(api.CreateCUDAProviderOptions(&provider));
  const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(api.ReleaseCUDAProviderOptions)> owner(
      provider, api.ReleaseCUDAProviderOptions);
  Ort::ThrowOnError(api.UpdateCUDAProviderOptions(provider, names, values, 2));
  options.AppendExecutionProvider_CUDA_V2(*provider);
  options.AddConfigEntry("optimization.disable_specified_optimizers", "ConvActivationFusion");
}

// The photo as the graphs take it, 3 × rows × columns in [0, 1]; the last row and column are repeated to fill it up.
std::vector<float> planes(const Picture& photo, std::int64_t rows, std::int64_t columns) {
  std::vector<float> lr(3 * rows * columns);
  for (std::int64_t channel = 0; channel < 3; ++channel) {
    for (std::int64_t y = 0; y < rows; ++y) {
      for (std::int64_t x = 0; x < columns; ++x) {
        const std::int64_t from = std::min(y, photo.height - 1) * photo.width + std::min(x, photo.width - 1);
        lr[(channel * rows + y) * columns + x] = photo.rgb[3 * from + channel] / 255.0f;
      }
    }
  }
  return lr;
}

std::uint8_t level(float value) {
  if (!std::isfinite(value)) throw std::runtime_error("the network gave NaN: use a lower tau or another seed");
  return static_cast<std::uint8_t>(std::nearbyint(255.0f * std::clamp(value, 0.0f, 1.0f)));
}

float luma(float red, float green, float blue) { return 0.299f * red + 0.587f * green + 0.114f * blue; }

// How far from gray a picture may be, in blue less luma and in red less luma: as far as the photo is in the 7×7 pixels
// around, and half as far again. ChromaBounds in srflow_sdk/drawing/low_resolution.py explains it.
struct Chroma {
  float low[2] = {2, 2}, high[2] = {-2, -2};

  Chroma(const std::vector<float>& lr, std::int64_t rows, std::int64_t columns, std::int64_t y, std::int64_t x) {
    constexpr std::int64_t kReach = 3;
    float most = 0;
    for (std::int64_t row = std::max<std::int64_t>(y - kReach, 0); row <= std::min(y + kReach, rows - 1); ++row) {
      for (std::int64_t at = std::max<std::int64_t>(x - kReach, 0); at <= std::min(x + kReach, columns - 1); ++at) {
        const float* red = &lr[row * columns + at];
        const float *green = red + rows * columns, *blue = green + rows * columns;
        const float gray = luma(*red, *green, *blue), found[2] = {*blue - gray, *red - gray};
        for (int i : {0, 1}) {
          low[i] = std::min(low[i], found[i]);
          high[i] = std::max(high[i], found[i]);
          most = std::max(most, std::abs(found[i]));
        }
      }
    }
    for (int i : {0, 1}) {
      low[i] = most < 0.5f / 255 ? 0 : low[i] - most / 2;
      high[i] = most < 0.5f / 255 ? 0 : high[i] + most / 2;
    }
  }
};

// Values without specks, 3 × rows × columns: the luma of no pixel is beyond the second least or the second most of its
// eight neighbours. srflow_sdk/pixels/conservative_smoothing.py explains it.
std::vector<float> smooth(const float* sr, std::int64_t rows, std::int64_t columns) {
  const std::int64_t area = rows * columns;
  std::vector<float> result(sr, sr + 3 * area), lumas(area);
  for (std::int64_t at = 0; at < area; ++at) lumas[at] = luma(sr[at], sr[at + area], sr[at + 2 * area]);
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x) {
      std::vector<float> around;  // its eight neighbours' lumas
      for (std::int64_t row = y - 1; row <= y + 1; ++row) {
        for (std::int64_t column = x - 1; column <= x + 1; ++column) {
          if (row == y && column == x) continue;
          around.push_back(lumas[std::clamp<std::int64_t>(row, 0, rows - 1) * columns +
                                 std::clamp<std::int64_t>(column, 0, columns - 1)]);
        }
      }
      std::sort(around.begin(), around.end());
      const std::int64_t at = y * columns + x;
      const float change = std::clamp(lumas[at], around[1], around[6]) - lumas[at];
      for (int channel = 0; channel < 3; ++channel) result[channel * area + at] += change;
    }
  }
  return result;
}

// The picture of a photo, of 3 × scale·rows × scale·columns values, without what filled the photo up. lr: the photo as the
// graphs took it, 3 × rows × columns. Of a gray photo it is the luma of the network's colours.
Picture picture(const float* sr, const Picture& photo, const std::vector<float>& lr, std::int64_t rows,
                std::int64_t columns, std::int64_t scale) {
  const std::int64_t width = photo.width * scale, area = rows * columns * scale * scale;
  Picture result{photo.height * scale, width, std::vector<std::uint8_t>(3 * photo.height * scale * width), photo.gray};
  for (std::int64_t y = 0; y < photo.height; ++y) {
    for (std::int64_t x = 0; x < photo.width; ++x) {
      const Chroma bounds(lr, rows, columns, y, x);
      for (std::int64_t i = 0; i < scale * scale; ++i) {
        const std::int64_t row = y * scale + i / scale, column = x * scale + i % scale;
        const float* red = sr + row * columns * scale + column;
        const float *green = red + area, *blue = green + area, gray = luma(*red, *green, *blue);
        std::uint8_t* rgb = &result.rgb[3 * (row * width + column)];
        const float to_blue = photo.gray ? 0 : std::clamp(*blue - gray, bounds.low[0], bounds.high[0]);
        const float to_red = photo.gray ? 0 : std::clamp(*red - gray, bounds.low[1], bounds.high[1]);
        rgb[0] = level(gray + to_red);
        rgb[1] = level(gray - (0.299f * to_red + 0.114f * to_blue) / 0.587f);
        rgb[2] = level(gray + to_blue);
      }
    }
  }
  return result;
}

}  // namespace

Model::Model(const std::string& path, int threads, bool cuda) : env_(ORT_LOGGING_LEVEL_ERROR, "upscale") {
  namespace fs = std::filesystem;
  if (!fs::exists(path)) throw std::runtime_error(path + " does not exist: give a bundle, or a fused.onnx");
  if (fs::is_directory(path)) {
    for (const char* name : {"encoder.onnx", "sampler.onnx"}) {
      const fs::path file = fs::path(path) / name;
      if (!fs::exists(file)) throw std::runtime_error(path + " is not a bundle: it has no " + name);
      graphs_.push_back(load(file.string(), threads, cuda));
    }
  } else {
    graphs_.push_back(load(path, threads, cuda));
  }
  const auto& inputs = graphs_.back().inputs;
  for (const char* name : {"tau", graphs_.size() == 1 ? "lr" : "tau"}) {
    if (std::find(inputs.begin(), inputs.end(), name) == inputs.end()) {
      throw std::runtime_error(path + " is only a part of a model: give the bundle that it lies in, or a fused.onnx");
    }
  }
  read_metadata(path);
}

Model::Graph Model::load(const std::string& path, int threads, bool cuda) {
  const Quiet quiet;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(threads);
  if (cuda) use_cuda(options);
  Graph graph{Ort::Session(env_, path.c_str(), options), {}, {}};
  Ort::AllocatorWithDefaultOptions allocator;
  for (std::size_t i = 0; i < graph.session.GetInputCount(); ++i) {
    graph.inputs.emplace_back(graph.session.GetInputNameAllocated(i, allocator).get());
  }
  for (std::size_t i = 0; i < graph.session.GetOutputCount(); ++i) {
    graph.outputs.emplace_back(graph.session.GetOutputNameAllocated(i, allocator).get());
  }
  return graph;
}

void Model::read_metadata(const std::string& path) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto metadata = graphs_.back().session.GetModelMetadata();
  const auto value = [&](const char* key) {
    const auto found = metadata.LookupCustomMetadataMapAllocated(key, allocator);
    if (!found) {
      throw std::runtime_error(path + " is not a model of srflow-export: its metadata have no " + std::string(key));
    }
    return std::string(found.get());
  };
  if (value("srflow.latent_scheme") != "1") {
    throw std::runtime_error(path + " needs latents of scheme " + value("srflow.latent_scheme") +
                             ", and this program draws scheme 1: use a newer one");
  }
  scale_ = std::stoll(value("srflow.scale"));
  multiple_ = std::stoll(value("srflow.size_multiple"));
  const std::filesystem::path place = path;
  std::ifstream manifest((std::filesystem::is_directory(place) ? place : place.parent_path()) / "manifest.json");
  const std::string text{std::istreambuf_iterator<char>(manifest), {}};
  std::smatch tau;
  if (std::regex_search(text, tau, std::regex(R"x("default_tau":\s*([0-9.]+))x"))) default_tau_ = std::stof(tau[1]);
  smoothed_ = std::regex_search(text, std::regex(R"x("smoothed":\s*true)x"));
  std::istringstream levels(value("srflow.latent_levels"));  // "1:6,2:12,3:48"
  for (std::string entry; std::getline(levels, entry, ',');) {
    channels_[std::stoi(entry)] = std::stoll(entry.substr(entry.find(':') + 1));
  }
}

void Model::run(Graph& graph, Tensors& tensors) {
  std::vector<const char*> inputs, outputs;
  std::vector<Ort::Value> values;
  for (const std::string& name : graph.inputs) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw std::runtime_error("the graph has an unknown input, " + name);
    inputs.push_back(name.c_str());
    values.push_back(std::move(found->second));
  }
  for (const std::string& name : graph.outputs) outputs.push_back(name.c_str());
  auto results = graph.session.Run(Ort::RunOptions{}, inputs.data(), values.data(), values.size(), outputs.data(),
                                   outputs.size());
  for (std::size_t i = 0; i < results.size(); ++i) tensors.insert_or_assign(graph.outputs[i], std::move(results[i]));
}

Picture Model::upscale(const Picture& photo, float tau, std::uint64_t seed) {
  const std::int64_t rows = (photo.height + multiple_ - 1) / multiple_ * multiple_;
  const std::int64_t columns = (photo.width + multiple_ - 1) / multiple_ * multiple_;
  std::vector<float> lr = planes(photo, rows, columns), degrees = {tau};
  std::map<int, std::vector<float>> noise;
  Tensors tensors;
  tensors.emplace("lr", tensor(lr, {1, 3, rows, columns}));
  tensors.emplace("tau", tensor(degrees, {1}));
  for (const auto& [level, channels] : channels_) {
    const std::int64_t height = rows * scale_ >> level, width = columns * scale_ >> level;
    noise[level] = standard_normal(seed, level, channels, height, width);
    tensors.emplace("noise_level" + std::to_string(level), tensor(noise[level], {1, channels, height, width}));
  }
  for (Graph& graph : graphs_) run(graph, tensors);
  const auto found = tensors.find("sr");
  if (found == tensors.end()) throw std::runtime_error("the graph has no output sr");
  const float* sr = found->second.GetTensorData<float>();
  std::vector<float> smoothed;
  if (smoothed_ && tau > 0) {
    smoothed = smooth(sr, rows * scale_, columns * scale_);
    sr = smoothed.data();
  }
  return picture(sr, photo, lr, rows, columns, scale_);
}
