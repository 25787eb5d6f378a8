#include "fields.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace srflow::trt {
namespace {

using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

const PluginFieldCollection& not_null(const PluginFieldCollection* collection) {
  if (collection == nullptr) throw Refusal("TensorRT gave no attributes");
  return *collection;
}

template <typename T>
T read(const nvinfer1::PluginField& field) {
  T value;
  std::memcpy(&value, field.data, sizeof(value));
  return value;
}

}  // namespace

Fields::Fields(const PluginFieldCollection* collection) : collection_(not_null(collection)) {}

const nvinfer1::PluginField* Fields::find(const std::string& name) const {
  for (int32_t i = 0; i < collection_.nbFields; ++i) {
    const nvinfer1::PluginField& field = collection_.fields[i];
    if (field.name != nullptr && name == field.name && field.data != nullptr) return &field;
  }
  return nullptr;
}

const nvinfer1::PluginField& Fields::existing(const std::string& name) const {
  if (const nvinfer1::PluginField* const field = find(name)) return *field;
  throw Refusal("attribute " + name + " is missing");
}

bool Fields::has(const std::string& name) const { return find(name) != nullptr; }

std::string Fields::text(const std::string& name) const {
  const nvinfer1::PluginField& field = existing(name);
  if (field.type != PluginFieldType::kCHAR || field.length < 0)
    throw Refusal("attribute " + name + " must be a string");
  // Some callers count the terminator in the length, others do not.
  const char* const begin = static_cast<const char*>(field.data);
  return std::string(begin, std::find(begin, begin + field.length, '\0'));
}

float Fields::number(const std::string& name) const {
  const nvinfer1::PluginField& field = existing(name);
  if (field.type != PluginFieldType::kFLOAT32 || field.length != 1)
    throw Refusal("attribute " + name + " must be one float");
  return read<float>(field);
}

std::int32_t Fields::integer(const std::string& name) const {
  const nvinfer1::PluginField& field = existing(name);
  if (field.length == 1 && field.type == PluginFieldType::kINT32) return read<std::int32_t>(field);
  if (field.length == 1 && field.type == PluginFieldType::kINT64) {
    const std::int64_t value = read<std::int64_t>(field);
    if (value >= 0 && value <= std::numeric_limits<std::int32_t>::max()) return static_cast<std::int32_t>(value);
  }
  throw not_one_integer(name);
}

}  // namespace srflow::trt
