// Calls the plugin as TensorRT does.
#include "plugin.h"

#include "creators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "fake_launchers.h"

namespace {

using namespace nvinfer1;
using srflow::trt::launches;

IPluginCreatorV3One& creator() {
  std::int32_t count = 0;
  return *static_cast<IPluginCreatorV3One*>(srflow::trt::creators(count)[0]);
}

// A node's attributes as the parser passes them. The parser counts a string's terminator.
struct TailFields {
  std::string scale_map = "tanh", order = "shift_first";
  float clamp = 0.7f;
  std::int32_t begin = 12, end = 24, channels_last = 0, h_a = 0;
  PluginFieldType begin_type = PluginFieldType::kINT32;
  std::int32_t count = 7;  // without the last two: the graph of a bundle

  std::unique_ptr<IPluginV3> plugin(TensorRTPhase phase = TensorRTPhase::kBUILD) const {
    const PluginField fields[] = {
        {"scale_map", scale_map.c_str(), PluginFieldType::kCHAR, static_cast<std::int32_t>(scale_map.size() + 1)},
        {"order", order.c_str(), PluginFieldType::kCHAR, static_cast<std::int32_t>(order.size() + 1)},
        {"clamp", &clamp, PluginFieldType::kFLOAT32, 1},
        {"begin", &begin, begin_type, 1},
        {"end", &end, PluginFieldType::kINT32, 1},
        {"channels_last", &channels_last, PluginFieldType::kINT32, 1},
        {"h_a", &h_a, PluginFieldType::kINT32, 1}};
    const PluginFieldCollection collection{count, fields};
    return std::unique_ptr<IPluginV3>(creator().createPlugin("step", &collection, phase));
  }
};

IPluginV3OneBuild& build(IPluginV3& plugin) {
  return *static_cast<IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime& runtime(IPluginV3& plugin) {
  return *static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

// What a call logs.
template <typename Call>
std::string logged(const Call& call) {
  testing::internal::CaptureStderr();
  call();
  return testing::internal::GetCapturedStderr();
}

PluginTensorDesc tensor(std::vector<std::int64_t> extents, DataType type = DataType::kFLOAT) {
  PluginTensorDesc description{};
  description.dims.nbDims = static_cast<std::int32_t>(extents.size());
  std::copy(extents.begin(), extents.end(), description.dims.d);
  description.type = type;
  description.format = TensorFormat::kLINEAR;
  return description;
}

std::vector<PluginTensorDesc> tail_inputs(DataType conditioning = DataType::kFLOAT) {
  return {tensor({2, 12, 5, 7}),
          tensor({2, 12, 5, 7}, conditioning),
          tensor({1, 36, 5, 7}, conditioning),
          tensor({1, 36, 5, 7}, conditioning),
          tensor({12, 12, 1, 1}),
          tensor({12})};
}

std::int32_t change_shapes(IPluginV3& plugin, const std::vector<PluginTensorDesc>& inputs) {
  const PluginTensorDesc output{};
  return runtime(plugin).onShapeChange(inputs.data(), static_cast<std::int32_t>(inputs.size()), &output, 1);
}

// Dimension expressions; −1 is a dimension that is not known yet.
struct Extent : IDimensionExpr, apiv::VDimensionExpr {
  explicit Extent(std::int64_t extent) : value(extent) { mImpl = this; }
  bool isConstant() const override { return value >= 0; }
  std::int64_t getConstantValue() const override { return value; }
  bool isSizeTensor() const override { return false; }
  std::int64_t value;
};
struct ExtentBuilder : IExprBuilder, apiv::VExprBuilder {
  ExtentBuilder() { mImpl = this; }
  const IDimensionExpr* constant(std::int64_t value) override { return &extents.emplace_back(value); }
  const IDimensionExpr* operation(DimensionOperation, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }
  const IDimensionExpr* declareSizeTensor(std::int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }
  std::deque<Extent> extents;
};

// An output's extents; empty if the plugin refuses.
std::vector<std::int64_t> output_shape(IPluginV3& plugin, const std::vector<PluginTensorDesc>& inputs, int which = 0) {
  ExtentBuilder builder;
  std::vector<DimsExprs> shapes(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    shapes[i].nbDims = inputs[i].dims.nbDims;
    for (int axis = 0; axis < shapes[i].nbDims; ++axis)
      shapes[i].d[axis] = builder.IExprBuilder::constant(inputs[i].dims.d[axis]);
  }
  DimsExprs outputs[2] = {};
  const DimsExprs& output = outputs[which];
  if (build(plugin).getOutputShapes(shapes.data(), static_cast<std::int32_t>(shapes.size()), nullptr, 0, outputs,
                                    build(plugin).getNbOutputs(), builder) != 0)
    return {};
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < output.nbDims; ++axis) extents.push_back(static_cast<const Extent*>(output.d[axis])->value);
  return extents;
}

TEST(Library, HasThePluginByNamespaceAndVersion) {
  std::int32_t count = 0;
  srflow::trt::creators(count);
  ASSERT_EQ(count, 1);
  EXPECT_STREQ(creator().getPluginName(), "FlowStepTail");
  EXPECT_STREQ(creator().getPluginNamespace(), "srflow");
  EXPECT_STREQ(creator().getPluginVersion(), "1");
}

TEST(Attributes, SurviveSerialisation) {
  TailFields fields;
  fields.scale_map = "sigmoid";
  const auto made = fields.plugin();
  const PluginFieldCollection* serialised = runtime(*made).getFieldsToSerialize();
  const std::unique_ptr<IPluginV3> again(creator().createPlugin("step", serialised, TensorRTPhase::kRUNTIME));
  ASSERT_NE(again, nullptr);
  EXPECT_STREQ(build(*again).getMetadataString(), build(*made).getMetadataString());
  EXPECT_NE(std::string(build(*again).getMetadataString()).find("scale_map=sigmoid order=shift_first clamp=0.7"),
            std::string::npos);
  const std::unique_ptr<IPluginV3> clone(again->clone()), attached(runtime(*again).attachToContext(nullptr));
  EXPECT_STREQ(build(*clone).getMetadataString(), build(*made).getMetadataString());
  EXPECT_STREQ(build(*attached).getMetadataString(), build(*made).getMetadataString());
}

TEST(Attributes, WithoutMeaningAreRefusedInOneLine) {
  const auto refusal = [](auto change) {
    TailFields fields;
    change(fields);
    return logged([&] { EXPECT_EQ(fields.plugin(), nullptr); });
  };
  EXPECT_EQ(refusal([](TailFields& f) { f.scale_map = "cube"; }),
            "srflow: FlowStepTail step: attribute scale_map is \"cube\"; it must be exp, sigmoid or tanh\n");
  EXPECT_NE(refusal([](TailFields& f) { f.order = ""; }).find("attribute order is \"\""), std::string::npos);
  EXPECT_EQ(refusal([](TailFields& f) { f.clamp = 0; }),
            "srflow: FlowStepTail step: attribute clamp is 0.000000; "
            "for the tanh map it must be positive and finite\n");
  EXPECT_NE(refusal([](TailFields& f) { f.end = 12; }).find("0 <= begin < end"), std::string::npos);
  EXPECT_NE(refusal([](TailFields& f) { f.count = 4; }).find("attribute end is missing"), std::string::npos);
  EXPECT_NE(refusal([](TailFields& f) { f.begin_type = PluginFieldType::kFLOAT32; }).find("begin must be one integer"),
            std::string::npos);
  EXPECT_NE(logged([] { EXPECT_EQ(creator().createPlugin(nullptr, nullptr, TensorRTPhase::kBUILD), nullptr); }), "");
}

TEST(Formats, ConditioningIsFloatOrHalfTogetherAndTheRestIsFloat) {
  const auto plugin = TailFields().plugin();
  const auto supported = [&](const std::vector<PluginTensorDesc>& inputs, DataType output = DataType::kFLOAT) {
    std::vector<DynamicPluginTensorDesc> all(inputs.size() + 1);
    for (std::size_t i = 0; i < inputs.size(); ++i) all[i].desc = inputs[i];
    all.back().desc = tensor({}, output);
    for (int position = 0; position <= 6; ++position)
      if (!build(*plugin).supportsFormatCombination(position, all.data(), 6, 1)) return false;
    return true;
  };
  EXPECT_TRUE(supported(tail_inputs()));
  EXPECT_TRUE(supported(tail_inputs(DataType::kHALF)));
  EXPECT_FALSE(supported(tail_inputs(DataType::kBF16)));
  EXPECT_FALSE(supported(tail_inputs(), DataType::kHALF));
  auto mixed = tail_inputs(DataType::kHALF);
  mixed[3].type = DataType::kFLOAT;
  EXPECT_FALSE(supported(mixed));
  auto packed = tail_inputs();
  packed[0].format = TensorFormat::kCHW32;
  EXPECT_FALSE(supported(packed));
}

TailFields of_engine() {
  TailFields fields;
  fields.channels_last = fields.h_a = 1;
  return fields;
}

// Their head with channels last: N × H × W × C.
std::vector<PluginTensorDesc> channels_last(std::vector<PluginTensorDesc> inputs) {
  auto& d = inputs[1].dims.d;
  std::rotate(d + 1, d + 2, d + 4);
  return inputs;
}

TEST(SecondOutput, IsHAInHalfWithItsChannelsLastWhereTheGraphAsksForIt) {
  const auto plugin = of_engine().plugin(), plain = TailFields().plugin();
  TailFields of_bundle;
  of_bundle.count = 5;
  EXPECT_EQ(build(*of_bundle.plugin()).getNbOutputs(), 1);
  EXPECT_EQ(build(*plain).getNbOutputs(), 1);
  ASSERT_EQ(build(*plugin).getNbOutputs(), 2);
  EXPECT_EQ(output_shape(*plugin, channels_last(tail_inputs()), 1), (std::vector<std::int64_t>{2, 5, 7, 6}));
  DataType types[2] = {};
  const DataType inputs[] = {DataType::kFLOAT, DataType::kHALF,  DataType::kHALF,
                             DataType::kHALF,  DataType::kFLOAT, DataType::kFLOAT};
  EXPECT_EQ(build(*plugin).getOutputDataTypes(types, 2, inputs, 6), 0);
  EXPECT_EQ(types[0], DataType::kFLOAT);
  EXPECT_EQ(types[1], DataType::kHALF);
  const auto supported = [&](TensorFormat format, DataType type) {
    std::vector<DynamicPluginTensorDesc> all(8);
    auto tensors = tail_inputs(DataType::kHALF);
    tensors.push_back(tensor({}));
    tensors.push_back(tensor({}, type));
    tensors.back().format = format;
    for (std::size_t i = 0; i < tensors.size(); ++i) all[i].desc = tensors[i];
    for (int position = 0; position < 8; ++position)
      if (!build(*plugin).supportsFormatCombination(position, all.data(), 6, 2)) return false;
    return true;
  };
  EXPECT_TRUE(supported(TensorFormat::kLINEAR, DataType::kHALF));
  EXPECT_FALSE(supported(TensorFormat::kLINEAR, DataType::kFLOAT));
  EXPECT_FALSE(supported(TensorFormat::kHWC8, DataType::kHALF));
}

TEST(SecondOutput, SurvivesSerialisationAndNeedsAChannel) {
  const auto plugin = of_engine().plugin();
  const PluginFieldCollection* serialised = runtime(*plugin).getFieldsToSerialize();
  const std::unique_ptr<IPluginV3> again(creator().createPlugin("step", serialised, TensorRTPhase::kRUNTIME));
  EXPECT_EQ(output_shape(*again, channels_last(tail_inputs()), 1), (std::vector<std::int64_t>{2, 5, 7, 6}));
  const auto refusal = [](auto change) {
    TailFields fields = of_engine();
    change(fields);
    return logged([&] { EXPECT_EQ(fields.plugin(), nullptr); });
  };
  const std::string who = "srflow: FlowStepTail step: attribute ";
  EXPECT_EQ(refusal([](TailFields& f) { f.h_a = 2; }), who + "h_a is 2; it must be 0 or 1\n");
  EXPECT_EQ(refusal([](TailFields& f) { f.end = 13; }), who + "h_a is 1; that takes two channels or more\n");
}

TEST(Types, OutputIsFloatAndOthersAreRefused) {
  const auto plugin = TailFields().plugin();
  DataType output = DataType::kINT32;
  std::vector<DataType> inputs = {DataType::kFLOAT, DataType::kHALF,  DataType::kHALF,
                                  DataType::kHALF,  DataType::kFLOAT, DataType::kFLOAT};
  EXPECT_EQ(build(*plugin).getOutputDataTypes(&output, 1, inputs.data(), 6), 0);
  EXPECT_EQ(output, DataType::kFLOAT);
  inputs[4] = DataType::kHALF;
  const auto call = [&] { EXPECT_NE(build(*plugin).getOutputDataTypes(&output, 1, inputs.data(), 6), 0); };
  EXPECT_EQ(logged(call), "srflow: FlowStepTail step: input 4 must be float32\n");
}

TEST(Shapes, FollowFromTheInputsKnownOrNot) {
  const auto tail = TailFields().plugin(), of_engines = of_engine().plugin();
  EXPECT_EQ(output_shape(*tail, tail_inputs()), (std::vector<std::int64_t>{2, 12, 5, 7}));
  auto open = channels_last(tail_inputs());
  for (int axis : {0, 2, 3}) open[0].dims.d[axis] = -1;
  EXPECT_EQ(output_shape(*of_engines, open), (std::vector<std::int64_t>{-1, 12, -1, -1}));
  EXPECT_EQ(output_shape(*of_engines, open, 1), (std::vector<std::int64_t>{-1, -1, -1, 6}));
}

TEST(Shapes, ThatDoNotFitAreRefusedInOneLine) {
  const auto tail = TailFields().plugin();
  auto inputs = tail_inputs();
  inputs[1] = tensor({2, 14, 5, 7});
  EXPECT_EQ(logged([&] { EXPECT_TRUE(output_shape(*tail, inputs).empty()); }),
            "srflow: FlowStepTail step: head is 2x14x5x7; it must be 2x12x5x7\n");
  EXPECT_EQ(change_shapes(*tail, tail_inputs()), 0);
  EXPECT_NE(logged([&] { EXPECT_NE(change_shapes(*tail, inputs), 0); }), "");
  inputs = tail_inputs();
  inputs[2] = inputs[3] = tensor({1, 20, 5, 7});
  EXPECT_NE(logged([&] { EXPECT_NE(change_shapes(*tail, inputs), 0); }).find("end is 24, but injector_scale has 20"),
            std::string::npos);
  inputs.pop_back();
  EXPECT_NE(logged([&] { EXPECT_NE(change_shapes(*tail, inputs), 0); }).find("5 inputs"), std::string::npos);
  EXPECT_NE(logged([&] { EXPECT_NE(change_shapes(*tail, channels_last(tail_inputs())), 0); }), "");
}

TEST(TimingCache, StepsShareATimingAndMapsDoNot) {
  TailFields fields;
  const std::string id = build(*fields.plugin()).getTimingCacheID();
  fields.begin = 0, fields.end = 12;
  EXPECT_EQ(build(*fields.plugin()).getTimingCacheID(), id);
  fields.scale_map = "exp";
  EXPECT_NE(build(*fields.plugin()).getTimingCacheID(), id);
}

TEST(Enqueue, HandsTensorsAndSizesToTheKernels) {
  launches = {};
  float data[8];
  const void* inputs[] = {data, data + 1, data + 2, data + 3, data + 4, data + 5};
  void* outputs[] = {data + 6};
  const auto stream = reinterpret_cast<cudaStream_t>(data + 7);
  const auto tail = TailFields().plugin();
  for (DataType type : {DataType::kFLOAT, DataType::kHALF})
    EXPECT_EQ(runtime(*tail).enqueue(tail_inputs(type).data(), nullptr, inputs, outputs, nullptr, stream), 0);
  EXPECT_EQ(launches.tails, 1);
  EXPECT_EQ(launches.half_tails, 1);
  EXPECT_EQ(launches.scale_map, srflow::ScaleMap::kTanh);
  EXPECT_EQ(launches.order, srflow::AffineOrder::kShiftFirst);
  EXPECT_EQ(launches.stream, data + 7);
  const auto& of_tail = launches.tail;
  EXPECT_EQ(std::vector<const void*>({of_tail.h, of_tail.head, of_tail.injector_scale, of_tail.injector_shift,
                                      of_tail.mixing_weight, of_tail.mixing_bias, of_tail.out}),
            std::vector<const void*>({data, data + 1, data + 2, data + 3, data + 4, data + 5, data + 6}));
  EXPECT_EQ(std::vector<std::int64_t>({of_tail.batch, of_tail.channels, of_tail.pixels, of_tail.conditioning_batch,
                                       of_tail.conditioning_channels, of_tail.begin}),
            std::vector<std::int64_t>({2, 12, 35, 1, 36, 12}));
  EXPECT_EQ(of_tail.clamp, 0.7f);
}

TEST(Enqueue, TellsTheKernelsOfChannelsThatAreLastAndOfTheSecondOutput) {
  launches = {};
  float data[8];
  const void* inputs[6] = {};
  void* outputs[] = {data, data + 1};
  const auto enqueue = [&](IPluginV3& plugin, const std::vector<PluginTensorDesc>& shapes) {
    EXPECT_EQ(runtime(plugin).enqueue(shapes.data(), nullptr, inputs, outputs, nullptr, nullptr), 0);
  };
  const auto tail = tail_inputs(DataType::kHALF);
  enqueue(*TailFields().plugin(), tail);
  EXPECT_FALSE(launches.half_tail_last);
  EXPECT_EQ(launches.half_tail_h_a, nullptr);
  enqueue(*of_engine().plugin(), channels_last(tail));
  EXPECT_TRUE(launches.half_tail_last);
  EXPECT_EQ(launches.half_tail_h_a, data + 1);
}

TEST(Enqueue, ReportsWhatCudaRefuses) {
  launches = {};
  launches.result = 700;
  const auto plugin = TailFields().plugin();
  const void* inputs[6] = {};
  void* outputs[1] = {};
  EXPECT_EQ(logged([&] {
              EXPECT_NE(runtime(*plugin).enqueue(tail_inputs().data(), nullptr, inputs, outputs, nullptr, nullptr), 0);
            }),
            "srflow: FlowStepTail step: CUDA refuses the kernel: an illegal memory access\n");
}

}  // namespace
