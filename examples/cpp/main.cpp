// upscale MODEL PHOTO.png LARGE.png [--tau T] [--seed N] [--threads N] [--device D]: what srflow-upscale does, without Python.
//
// It writes 8-bit RGB, in one piece: transparent parts become white (srflow-upscale enlarges the transparency too), and
// profiles and metadata are left out.
#include <charconv>
#include <cmath>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "model.h"
#include "picture.h"

namespace {

constexpr char kUsage[] =
    "Usage: upscale MODEL PHOTO.png LARGE.png [--tau T] [--seed N] [--threads N] [--device D]\n\n"
    "  MODEL      a bundle, such as srflow_sdk/models/x4-small.srflow, or a fused.onnx of srflow-export --fused\n"
    "  --tau      temperature, 0 … 2  [default: the model's number, everywhere]\n"
    "  --seed     0 … 2^64 - 1; another seed gives another picture  [default: 0]\n"
    "  --threads  of the processor  [default: all cores]\n"
    "  --device   cpu, or cuda with ONNX Runtime's GPU build  [default: cpu]\n\n"
    "The same model, tau and seed give the picture of srflow-upscale --tau T --seed N, to 1/255, if the photo is opaque,\n"
    "8-bit and without a colour profile. Transparent parts become white.\n";

struct Options {
  std::vector<std::string> files;
  std::optional<float> tau;
  std::uint64_t seed = 0;
  int threads = 0;
  bool cuda = false;
  bool help = false;
};

// A mistake in the command line: exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename Number>
Number number(const std::string& option, const std::string& text, const char* range) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end) {
    throw UsageError(option + " is " + text + "; it must be a number " + range);
  }
  return value;
}

Options parsed(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    std::string name = arguments[i];
    if (name == "--help" || name == "-h") {
      options.help = true;
      return options;
    }
    if (name.rfind("--", 0) != 0) {
      options.files.push_back(name);
      continue;
    }
    std::string value;
    if (const std::size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else {
      if (i + 1 == count) throw UsageError(name + " needs a value");
      value = arguments[++i];
    }
    if (name == "--tau") {
      options.tau = number<float>(name, value, "from 0 to 2");
      if (!(*options.tau >= 0 && *options.tau <= 2)) throw UsageError("--tau is " + value + "; it must be from 0 to 2");
    } else if (name == "--seed") {
      options.seed = number<std::uint64_t>(name, value, "from 0 to 2^64 - 1");
    } else if (name == "--threads") {
      options.threads = number<int>(name, value, "of threads");
      if (options.threads < 0) throw UsageError("--threads is " + value + "; it must be 1 or more, or 0 for all cores");
    } else if (name == "--device") {
      if (value != "cpu" && value != "cuda") throw UsageError("--device is " + value + "; it must be cpu or cuda");
      options.cuda = value == "cuda";
    } else {
      throw UsageError("there is no option " + name + "; there are --tau, --seed, --threads and --device");
    }
  }
  if (options.files.size() != 3) throw UsageError("MODEL, PHOTO.png and LARGE.png are needed; --help says more");
  const std::filesystem::path photo = options.files[1], large = options.files[2];
  if (large.extension() != ".png") throw UsageError(large.string() + " would hold a PNG: let its name end in .png");
  std::error_code missing;
  if (std::filesystem::equivalent(photo, large, missing)) {
    throw UsageError(large.string() + " would overwrite the photo: name another file");
  }
  return options;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const Options options = parsed(count, arguments);
    if (options.help) {
      std::cout << kUsage;
      return 0;
    }
    const Picture photo = read_png(options.files[1], kMostPixels);
    Model model(options.files[0], options.threads, options.cuda);
    const std::optional<float> tau = options.tau ? options.tau : model.default_tau();
    if (!tau) throw UsageError(options.files[0] + " has no manifest.json beside it with a temperature: give --tau");
    write_png(options.files[2], model.upscale(photo, *tau, options.seed));
    return 0;
  } catch (const UsageError& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  } catch (const Ort::Exception& error) {
    std::cerr << "error: ONNX Runtime cannot run the model: " << error.what() << "\n";
    return 1;
  } catch (const std::bad_alloc&) {
    std::cerr << "error: memory ran out: use a smaller photo, or srflow-upscale, which draws tiles\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
