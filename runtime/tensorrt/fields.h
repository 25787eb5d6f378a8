// Attributes as TensorRT passes them: from the ONNX parser, and again from an engine when it is deserialised.
#ifndef SRFLOW_TENSORRT_FIELDS_H_
#define SRFLOW_TENSORRT_FIELDS_H_

#include <string>

#include "api.h"
#include "srflow/checks.h"

namespace srflow::trt {

class Fields {
 public:
  // The collection must outlive this object. Throws Refusal for a null pointer; the functions below throw it for a
  // field that is missing, of another type, or not a single value.
  explicit Fields(const nvinfer1::PluginFieldCollection* collection);

  std::string text(const std::string& name) const;
  float number(const std::string& name) const;
  std::int32_t integer(const std::string& name) const;
  // Whether there is a field of this name: older exporters' graphs lack some.
  bool has(const std::string& name) const;

 private:
  const nvinfer1::PluginField* find(const std::string& name) const;
  const nvinfer1::PluginField& existing(const std::string& name) const;

  const nvinfer1::PluginFieldCollection& collection_;
};

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_FIELDS_H_
