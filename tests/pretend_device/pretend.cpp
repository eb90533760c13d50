// A device that is not there: every number is computed by the CPU, in the CPU's memory, and yet
// tensors say that they are on "pretend", and behave as on a GPU wherever that can be seen.
//
//  - An operation that meets a tensor of the CPU, or of the other of two devices, fails.
//  - Memory has a limit; what exceeds it raises torch.OutOfMemoryError. So does any one allocation
//    that a test has asked to fail.
//  - Streams: a copy from pinned memory with non_blocking=True is done only when its own stream
//    goes on or somebody waits for it, as late as can be. Until then its target is full of NaN.
//  - Memory that is freed while another stream may still use it, unrecorded, is counted.
//  - What makes the host wait for a GPU is told to Python (`on_wait`), what a GPU would launch is
//    counted by name.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/csrc/utils/pybind.h>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>

namespace {
namespace py = pybind11;
constexpr auto PRETEND = c10::DeviceType::PrivateUse1;
constexpr int DEVICES = 2;
constexpr size_t ROOM = size_t(16) << 30;  // bytes of each device, as long as there is no limit

// --- State -------------------------------------------------------------------------------------

using StreamKey = std::pair<int, int64_t>;  // device and id; 0 is the default stream

struct Stream {
  std::deque<std::function<void()>> late;  // copies that are not done yet
  long waited_for = 0;                     // the number of its last launch that the host waited for
};

std::recursive_mutex lock;
std::map<StreamKey, Stream> streams;
std::map<std::string, long> launches;  // by name
std::map<const char*, size_t> pinned;  // begin of pinned blocks to their size
long launch = 0, unrecorded = 0;
long allocations = 0, fails_at = 0;    // how many there were; which is to fail, 0 for none
int64_t last_stream = 0;
size_t held[DEVICES] = {}, peak[DEVICES] = {}, limit = ROOM;
thread_local int current_device = 0;
thread_local int64_t current_stream[DEVICES] = {};
py::object* on_wait = nullptr;  // never freed: Python may be gone when the last thread ends

StreamKey here(int device) { return {device, current_stream[device]}; }

// The lock is never held where a tensor may end: that may need Python's lock, whose owner may wait
// for this one.
void finish(const StreamKey& key) {
  std::deque<std::function<void()>> done;
  std::lock_guard guard(lock);
  done.swap(streams[key].late);
  for (auto& copy : done) copy();
}

void wait_for(const StreamKey& key, const char* why) {
  finish(key);
  {
    std::lock_guard guard(lock);
    streams[key].waited_for = launch;
  }
  if (why && on_wait && Py_IsInitialized()) {
    py::gil_scoped_acquire gil;
    (*on_wait)(why);
  }
}

// --- Memory ------------------------------------------------------------------------------------

struct Block {
  void* data;
  size_t size;
  StreamKey owner;                 // the stream it was allocated on
  std::map<StreamKey, long> used;  // last launch of each other stream that used it
  std::set<StreamKey> recorded;    // other streams that the allocator was told of
  c10::Storage kept;               // of the CPU, where the CPU's kernel allocated it
};

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard guard(lock);
    held[block->owner.first] -= block->size;
    for (const auto& [stream, at] : block->used)
      if (!block->recorded.count(stream) && streams[stream].waited_for < at) unrecorded++;
  }
  if (!block->kept) std::free(block->data);
  delete block;
}

at::DataPtr counted(void* data, size_t size, int device, c10::Storage kept = {}) {
  std::lock_guard guard(lock);
  auto& in_use = held[device];
  const bool fails = size && ++allocations == fails_at;
  if (fails || size > limit || in_use > limit - size) {
    if (!kept) std::free(data);
    TORCH_CHECK_WITH(OutOfMemoryError, false, "pretend: out of memory. Tried to allocate ", size,
                     " bytes; ", in_use, " of ", limit, " are in use");
  }
  in_use += size;
  peak[device] = std::max(peak[device], in_use);
  auto* block = new Block{data, size, here(device), {}, {}, std::move(kept)};
  return {data, block, &release, c10::Device(PRETEND, device)};
}

Block* block_of(const at::DataPtr& data) {
  return data.get_deleter() == &release ? static_cast<Block*>(data.get_context()) : nullptr;
}

struct DeviceMemory final : c10::DeviceAllocator {
  at::DataPtr allocate(size_t size) override {
    void* data = nullptr;
    if (size && posix_memalign(&data, 64, size)) TORCH_CHECK(false, "the host is out of memory");
    if (size) std::memset(data, 0xFF, size);  // NaN, or -1: what reads it too early is seen
    return counted(data, size, current_device);
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}  // nothing is kept that was freed
  void recordStream(const at::DataPtr& data, c10::Stream stream) override {
    std::lock_guard guard(lock);
    if (auto* block = block_of(data))
      block->recorded.insert({stream.device_index(), stream.id()});
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    std::lock_guard guard(lock);
    c10::CachingDeviceAllocator::DeviceStats found;
    for (auto* stat : {&found.allocated_bytes[0], &found.reserved_bytes[0]}) {
      stat->current = static_cast<int64_t>(held[device]);
      stat->peak = static_cast<int64_t>(peak[device]);
    }
    return found;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override {
    std::lock_guard guard(lock);
    peak[device] = held[device];
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    std::lock_guard guard(lock);
    return {limit - std::min(limit, held[device]), limit};
  }
} memory;

struct PinnedMemory final : c10::Allocator {
  static void unpin(void* data) {
    std::lock_guard guard(lock);
    pinned.erase(static_cast<const char*>(data));
    std::free(data);
  }
  at::DataPtr allocate(size_t size) override {
    void* data = nullptr;
    if (posix_memalign(&data, 64, std::max<size_t>(size, 1))) TORCH_CHECK(false, "out of memory");
    std::lock_guard guard(lock);
    pinned[static_cast<const char*>(data)] = size;
    return {data, data, &unpin, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &unpin; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
} pinned_memory;

bool is_pinned(const void* data) {
  std::lock_guard guard(lock);
  auto after = pinned.upper_bound(static_cast<const char*>(data));
  if (after == pinned.begin()) return false;
  auto [begin, size] = *--after;
  return static_cast<const char*>(data) < begin + std::max<size_t>(size, 1);
}

// --- What torch asks of a device ---------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  using D = c10::Device;
  using S = c10::Stream;
  static StreamKey key(const S& stream) { return {stream.device_index(), stream.id()}; }
  static S stream(D device, int64_t id) { return S(S::UNSAFE, D(PRETEND, at(device)), id); }
  static int at(D device) { return device.has_index() ? device.index() : current_device; }

  c10::DeviceType type() const override { return PRETEND; }
  D getDevice() const override { return {PRETEND, static_cast<c10::DeviceIndex>(current_device)}; }
  void setDevice(D device) const override { current_device = at(device); }
  void uncheckedSetDevice(D device) const noexcept override { current_device = at(device); }
  D exchangeDevice(D device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }

  S getStream(D device) const override { return stream(device, current_stream[at(device)]); }
  S getDefaultStream(D device) const override { return stream(device, 0); }
  S getNewStream(D device, int) const override {
    std::lock_guard guard(lock);
    return stream(device, ++last_stream);
  }
  S getStreamFromGlobalPool(D device, bool) const override { return getNewStream(device, 0); }
  S exchangeStream(S next) const override {
    auto before = getStream(next.device());
    current_stream[next.device_index()] = next.id();
    return before;
  }
  bool queryStream(const S& stream) const override {
    std::lock_guard guard(lock);
    return streams[key(stream)].late.empty();
  }
  void synchronizeStream(const S& stream) const override { wait_for(key(stream), "stream"); }
  void synchronizeDevice(c10::DeviceIndex device) const override {
    for (int64_t id = 0; id <= last_stream; id++) wait_for({device, id}, nullptr);
  }
  // An event is its stream: whoever waits for it finds all of that stream's copies done.
  void record(void** event, const S& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (!*event) *event = new StreamKey;
    *static_cast<StreamKey*>(*event) = key(stream);
  }
  void block(void* event, const S&) const override {
    if (event) finish(*static_cast<StreamKey*>(event));
  }
  bool queryEvent(void* event) const override {
    std::lock_guard guard(lock);
    return !event || streams[*static_cast<StreamKey*>(event)].late.empty();
  }
  void synchronizeEvent(void* event) const override {
    if (event) wait_for(*static_cast<StreamKey*>(event), "event");
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<StreamKey*>(event);
  }
  void recordDataPtrOnStream(const at::DataPtr& data, const S& stream) const override {
    memory.recordStream(data, stream);
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  void setCurrentDevice(c10::DeviceIndex device) const override { current_device = device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return std::exchange(current_device, device);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
};

// --- Tensors of the device and of the CPU, in the same memory ----------------------------------

bool is_ours(const at::Tensor& t) { return t.defined() && t.device().type() == PRETEND; }

at::Tensor as_cpu(const at::Tensor& t) {
  if (!is_ours(t)) return t;
  auto* storage = t.storage().unsafeGetStorageImpl();
  c10::Storage seen(c10::Storage::use_byte_size_t(), storage->nbytes(),
                    at::DataPtr(storage->mutable_data(), c10::kCPU), c10::GetAllocator(c10::kCPU),
                    /*resizable=*/true);
  auto found = at::detail::make_tensor<c10::TensorImpl>(
      std::move(seen), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  found.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  found._set_conj(t.is_conj());
  found._set_neg(t.is_neg());
  return found;
}

at::DataPtr taken_over(const c10::Storage& storage, int device) {
  auto* data = const_cast<void*>(storage.data());
  return counted(data, storage.nbytes(), device, storage);
}

c10::Storage storage_of(at::DataPtr data, size_t size) {
  return c10::Storage(c10::Storage::use_byte_size_t(), size, std::move(data), &memory, true);
}

at::Tensor in_storage(c10::Storage storage, const at::Tensor& like) {
  auto found = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), like.dtype());
  found.unsafeGetTensorImpl()->set_sizes_and_strides(
      like.sizes(), like.strides(), like.storage_offset());
  return found;
}

at::Tensor as_ours(const at::Tensor& cpu, int device) {
  if (!cpu.defined()) return cpu;
  return in_storage(storage_of(taken_over(cpu.storage(), device), cpu.storage().nbytes()), cpu);
}

[[noreturn]] void refuse(const std::string& name, const at::Tensor& one, const at::Tensor& other) {
  TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two "
              "devices, ", one.device(), " and ", other.device(), "! (", name, ")");
}

// Before an operation runs: its stream's copies are done, and its memory is in use there.
void begin(const std::string& name, const std::vector<at::Tensor>& tensors, int device) {
  auto stream = here(device);
  finish(stream);
  std::lock_guard guard(lock);
  launch++;
  launches[name]++;
  for (const auto& t : tensors)
    if (auto* block = is_ours(t) ? block_of(t.storage().data_ptr()) : nullptr)
      if (block->owner != stream) block->used[stream] = launch;
}

// --- Operations --------------------------------------------------------------------------------

// As on CUDA: numbers on the CPU meet tensors of the device in elementwise operations, and
// integers on the CPU may index.
bool may_be_of_cpu(const c10::OperatorHandle& op, const std::string& name, const at::Tensor& t) {
  static const std::set<std::string> others{
      "aten::fill_", "aten::floor_divide", "aten::floor_divide_", "aten::index_fill_",
      "aten::index_put_", "aten::_index_put_impl_", "aten::masked_fill", "aten::masked_fill_"};
  if (t.dim() != 0) return false;
  const bool plain_number = t.unsafeGetTensorImpl()->is_wrapped_number();
  return plain_number || op.hasTag(at::Tag::pointwise) || others.count(name);
}

bool takes_indices(const std::string& name) {
  return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
}

bool makes_the_host_wait(const std::string& name, const std::vector<at::Tensor>& tensors,
                         const c10::IValue& last) {
  static const std::set<std::string> waiting{
      "aten::nonzero", "aten::_unique", "aten::_unique2", "aten::unique_dim",
      "aten::unique_consecutive", "aten::masked_select", "aten::equal", "aten::bincount"};
  if (waiting.count(name)) return true;
  if (name == "aten::repeat_interleave") return last.isNone();  // how long the result is
  if (!takes_indices(name)) return false;
  for (const auto& t : tensors)
    if (t.defined() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte)) return true;
  return false;  // a mask is looked through for its places first
}

void each_tensor(c10::IValue& value, bool indices,
                 const std::function<at::Tensor(const at::Tensor&, bool)>& exchange) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) value = exchange(value.toTensor(), false);
  } else if (value.isTensorList()) {
    auto list = value.toTensorList().copy();
    for (size_t k = 0; k < list.size(); k++) list[k] = exchange(list.get(k), indices);
    value = list;
  } else if (value.isOptionalTensorList()) {
    auto list = value.toOptionalTensorList().copy();
    for (size_t k = 0; k < list.size(); k++)
      if (auto t = list.get(k); t && t->defined())
        list[k] = std::optional<at::Tensor>(exchange(*t, indices));
    value = list;
  }
}

// Any operation: by the CPU's kernel, on the same memory; nothing is copied.
void by_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& name = schema.name();
  const size_t count = schema.arguments().size(), first = stack->size() - count;
  std::vector<at::Tensor> ours, seen;  // arguments of the device, and as the CPU sees them
  std::vector<at::Tensor> theirs;      // of the CPU, where there may be none
  int device = -1;
  for (size_t k = first; k < stack->size(); k++) {
    auto& value = (*stack)[k];
    if (value.isDevice() && value.toDevice().type() == PRETEND) {
      device = Guard::at(value.toDevice());
      value = c10::Device(c10::kCPU);
    }
    each_tensor(value, takes_indices(name), [&](const at::Tensor& t, bool index) -> at::Tensor {
      if (!is_ours(t)) {
        if (!index && !may_be_of_cpu(op, name, t)) theirs.push_back(t);
        return t;
      }
      if (!ours.empty() && ours[0].device() != t.device()) refuse(name, ours[0], t);
      ours.push_back(t);
      seen.push_back(as_cpu(t));
      return seen.back();
    });
  }
  if (!ours.empty()) device = ours[0].device().index();
  if (!ours.empty() && !theirs.empty()) refuse(name, ours[0], theirs[0]);
  TORCH_CHECK(device >= 0, name, " has no tensor of the device");
  begin(name, ours, device);
  if (makes_the_host_wait(name, ours, stack->back())) wait_for(here(device), name.c_str());
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  for (size_t k = 0; k < ours.size(); k++) {  // what was resized, or moved
    auto &mine = ours[k], &now = seen[k];
    auto* storage = mine.storage().unsafeGetStorageImpl();
    if (now.storage().data() != storage->data() || now.storage().nbytes() != storage->nbytes()) {
      storage->set_data_ptr_noswap(taken_over(now.storage(), device));
      storage->set_nbytes(now.storage().nbytes());
    }
    if (now.sizes() != mine.sizes() || now.strides() != mine.strides())
      mine.unsafeGetTensorImpl()->set_sizes_and_strides(now.sizes(), now.strides());
  }
  std::map<c10::StorageImpl*, c10::Storage> made;
  for (size_t k = stack->size() - schema.returns().size(); k < stack->size(); k++)
    each_tensor((*stack)[k], false, [&](const at::Tensor& found, bool) -> at::Tensor {
      if (!found.is_cpu() || !found.has_storage()) return found;
      auto* storage = found.storage().unsafeGetStorageImpl();
      for (size_t i = 0; i < ours.size(); i++) {
        if (found.is_same(seen[i])) return ours[i];  // written to
        if (storage == seen[i].storage().unsafeGetStorageImpl()) {  // a view
          auto view = at::detail::make_tensor<c10::TensorImpl>(
              c10::TensorImpl::VIEW, c10::Storage(ours[i].storage()), ours[i].key_set(),
              found.dtype());
          view.unsafeGetTensorImpl()->set_sizes_and_strides(
              found.sizes(), found.strides(), found.storage_offset());
          view._set_conj(found.is_conj());
          view._set_neg(found.is_neg());
          return view;
        }
      }
      auto& own = made[storage];
      if (!own) own = storage_of(taken_over(found.storage(), device), found.storage().nbytes());
      return in_storage(own, found);
    });
}

using Size = c10::SymIntArrayRef;
using MaybeTensor = std::optional<at::Tensor>;

struct OnDevice {  // the current one, where an allocator is not told which
  int before;
  explicit OnDevice(std::optional<c10::Device> device) : before(current_device) {
    if (device) current_device = Guard::at(*device);
  }
  ~OnDevice() { current_device = before; }
};

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  OnDevice on(device);
  return at::detail::empty_generic(
      size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
  OnDevice on(device);
  return at::detail::empty_strided_generic(
      size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(dtype));
}

// The one operation in which both devices meet.
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const int device = (is_ours(to) ? to : from).device().index();
  const bool down = !is_ours(to), up = !is_ours(from);
  begin(down ? "copy to the host" : up ? "copy to the device" : "copy", {from, to}, device);
  auto copy = [source = as_cpu(from), target = as_cpu(to), from, to] {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor(target).copy_(source);
  };
  if (down || up) {
    if (non_blocking && is_pinned((down ? to : from).storage().data())) {
      std::lock_guard guard(lock);
      streams[here(device)].late.push_back(copy);
      return to;
    }
    wait_for(here(device), down ? "copy to the host" : "copy to the device");
  }
  copy();
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar item(const at::Tensor& t) {
  wait_for(here(t.device().index()), "item");
  return as_cpu(t).item();
}

const at::Tensor& resize_(const at::Tensor& t, Size size, std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!format || *format == at::MemoryFormat::Contiguous, "resize_ to another format");
  auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  auto* storage = t.storage().unsafeGetStorageImpl();
  const size_t needed = (c10::multiply_integers(sizes) + t.storage_offset()) * t.itemsize();
  if (storage->nbytes() < needed) {
    OnDevice on(t.device());
    auto larger = memory.allocate(needed);
    if (storage->nbytes()) std::memcpy(larger.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(needed);
  }
  t.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return t;
}

at::Tensor& set_to(at::Tensor& t, at::Storage storage, c10::SymInt offset, Size size, Size stride) {
  auto* impl = t.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                              offset.expect_int());
  return t;
}

at::Tensor& set_to_storage(at::Tensor& t, at::Storage storage) {
  const int64_t values = storage.nbytes() / t.itemsize();
  return set_to(t, std::move(storage), 0, {values}, {1});
}

at::Tensor& set_to_tensor(at::Tensor& t, const at::Tensor& other) {
  return set_to(t, other.storage(), other.storage_offset(), other.sym_sizes(), other.sym_strides());
}

void record_stream(at::Tensor& t, c10::Stream stream) {
  Guard().recordDataPtrOnStream(t.storage().data_ptr(), stream);
}

// Modules move their parameters by exchanging what these hold, as to a GPU: tied ones stay tied.
bool can_take_the_place_of(const at::Tensor&, const at::Tensor&) { return true; }

void same_device(const char* name, std::initializer_list<at::Tensor> tensors, const at::Tensor& x) {
  for (const auto& t : tensors)
    if (t.defined() && t.device() != x.device()) refuse(name, x, t);
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                       Size stride, Size padding, Size dilation, bool transposed, Size extra,
                       c10::SymInt groups) {
  at::Tensor b = bias.value_or(at::Tensor());
  same_device("convolution", {weight, b}, x);
  const int device = x.device().index();
  begin("aten::convolution", {x, weight, b}, device);
  at::AutoDispatchBelowADInplaceOrView guard;
  return as_ours(at::convolution_symint(as_cpu(x), as_cpu(weight), as_cpu(b), stride, padding,
                                        dilation, transposed, extra, groups), device);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, Size stride, Size padding,
    Size dilation, bool transposed, Size extra, c10::SymInt groups, std::array<bool, 3> wanted) {
  same_device("convolution_backward", {weight, dy}, x);
  const int device = x.device().index();
  for (int k = 0; k < 3; k++)  // a GPU has a kernel for each
    if (wanted[k]) begin("aten::convolution_backward", {dy, x, weight}, device);
  at::AutoDispatchBelowADInplaceOrView guard;
  std::vector<c10::SymInt> bias{dy.sym_size(1)};
  auto [dx, dw, db] = at::convolution_backward_symint(
      as_cpu(dy), as_cpu(x), as_cpu(weight), c10::OptionalArrayRef<c10::SymInt>(bias), stride,
      padding, dilation, transposed, extra, groups, wanted);
  return {as_ours(dx, device), as_ours(dw, device), as_ours(db, device)};
}

// Gradients of embeddings that would be sparse come dense: there are no sparse tensors here.
at::Tensor embedding_backward(const at::Tensor& dy, const at::Tensor& rows, int64_t count,
                              int64_t padding, bool scaled) {
  return at::embedding_dense_backward(dy, rows, count, padding, scaled);
}

// Cells of recurrent layers, which torch has for GPUs alone.
std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell(
    const at::Tensor& from_x, const at::Tensor& from_h, const at::Tensor& c,
    const MaybeTensor& bias_x, const MaybeTensor& bias_h) {
  auto gates = from_x + from_h;
  if (bias_x && bias_x->defined()) gates = gates + *bias_x + *bias_h;
  auto parts = gates.chunk(4, 1);
  auto i = parts[0].sigmoid(), f = parts[1].sigmoid(), g = parts[2].tanh(), o = parts[3].sigmoid();
  auto cell = f * c + i * g;
  return {o * cell.tanh(), cell, at::cat({i, f, g, o}, 1)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell_backward(
    const MaybeTensor& dh, const MaybeTensor& dc, const at::Tensor& c, const at::Tensor& cell,
    const at::Tensor& gates, bool has_bias) {
  auto parts = gates.chunk(4, 1);
  auto i = parts[0], f = parts[1], g = parts[2], o = parts[3], t = cell.tanh();
  auto to_h = dh && dh->defined() ? *dh : at::zeros_like(cell);
  auto to_cell = to_h * o * (1 - t * t);
  if (dc && dc->defined()) to_cell = to_cell + *dc;
  auto found = at::cat({to_cell * g * i * (1 - i), to_cell * c * f * (1 - f),
                        to_cell * i * (1 - g * g), to_h * t * o * (1 - o)}, 1);
  return {found, to_cell * f, has_bias ? found.sum(0) : at::Tensor()};
}

std::tuple<at::Tensor, at::Tensor> gru_cell(const at::Tensor& from_x, const at::Tensor& from_h,
                                            const at::Tensor& h, const MaybeTensor& bias_x,
                                            const MaybeTensor& bias_h) {
  const bool biased = bias_x && bias_x->defined();
  auto xs = (biased ? from_x + *bias_x : from_x).chunk(3, 1);
  auto hs = (biased ? from_h + *bias_h : from_h).chunk(3, 1);
  auto r = (xs[0] + hs[0]).sigmoid(), z = (xs[1] + hs[1]).sigmoid();
  auto n = (xs[2] + r * hs[2]).tanh();
  return {n + z * (h - n), at::cat({r, z, n, h, hs[2]}, 1)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gru_cell_backward(
    const at::Tensor& dh, const at::Tensor& kept, bool has_bias) {
  auto parts = kept.chunk(5, 1);
  auto r = parts[0], z = parts[1], n = parts[2], h = parts[3], of_h = parts[4];
  auto to_n = dh * (1 - z) * (1 - n * n);
  auto to_z = dh * (h - n) * z * (1 - z), to_r = to_n * of_h * r * (1 - r);
  auto dx = at::cat({to_r, to_z, to_n}, 1), from_h = at::cat({to_r, to_z, to_n * r}, 1);
  auto none = at::Tensor();
  return {dx, from_h, dh * z, has_bias ? dx.sum(0) : none, has_bias ? from_h.sum(0) : none};
}
}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
}

// A copy is what makes a lazy conjugate real: torch's own way to do it for any operation would copy.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
  m.impl("_copy_from_and_resize", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
  m.impl("_copy_from_and_resize", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_to);
  m.impl("set_.source_Storage", &set_to_storage);
  m.impl("set_.source_Tensor", &set_to_tensor);
  m.impl("record_stream", &record_stream);
  m.impl("_has_compatible_shallow_copy_type", &can_take_the_place_of);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("embedding_sparse_backward", &embedding_backward);
  m.impl("_thnn_fused_lstm_cell", &lstm_cell);
  m.impl("_thnn_fused_lstm_cell_backward_impl", &lstm_cell_backward);
  m.impl("_thnn_fused_gru_cell", &gru_cell);
  m.impl("_thnn_fused_gru_cell_backward", &gru_cell_backward);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  static Hooks hooks;
  c10::SetAllocator(PRETEND, &memory);
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("on_wait", [](py::object callback) { on_wait = new py::object(std::move(callback)); });
  m.def("held", [](int device) { return held[device]; }, py::arg("device") = 0);
  m.def("peak", [](int device) { return peak[device]; }, py::arg("device") = 0);
  m.def("reset_peak", [] { std::copy(held, held + DEVICES, peak); });
  m.def("limit", [](std::optional<size_t> bytes) { limit = bytes.value_or(ROOM); });
  m.def("allocations", [] { return allocations; });
  m.def("fail_at", [](long number) { fails_at = number ? allocations + number : 0; });
  m.def("unrecorded", [] { return unrecorded; });
  m.def("launches", [] { std::lock_guard guard(lock); return launches; });
  m.def("current_device", [] { return current_device; });
  m.def("set_device", [](int device) { current_device = device; });
}
