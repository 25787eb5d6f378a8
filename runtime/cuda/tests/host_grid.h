// A CUDA grid on the host: what a kernel in a .cuh file needs, so that its indexing and its barriers are tested without
// a GPU. A block's threads are host threads; blocks run one after another. Include this before the kernel's header.
#ifndef SRFLOW_CUDA_TESTS_HOST_GRID_H_
#define SRFLOW_CUDA_TESTS_HOST_GRID_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __syncthreads() srflow::host_grid::current->wait()

struct GridSize {
  unsigned x = 1, y = 1;
};
inline thread_local GridSize threadIdx, blockIdx, blockDim;

namespace srflow {
namespace host_grid {

class Barrier {
 public:
  explicit Barrier(unsigned threads) : threads_(threads) {}

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned long round = round_;
    if (++waiting_ == threads_) {
      waiting_ = 0;
      ++round_;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return round_ != round; });
    }
  }

 private:
  const unsigned threads_;
  unsigned waiting_ = 0;
  unsigned long round_ = 0;
  std::mutex mutex_;
  std::condition_variable all_here_;
};

inline Barrier* current = nullptr;
inline std::vector<float> shared;

// Runs `kernel` (a function without arguments that calls it) on every thread of the grid. The kernel gets exactly
// shared_bytes, so that a sanitizer sees an access beyond them. They start as NaN, to reveal a read before a write.
inline void run(GridSize grid, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  Barrier in_kernel(threads), between_blocks(threads);
  current = &in_kernel;
  std::vector<std::thread> team;
  for (unsigned thread = 0; thread < threads; ++thread) {
    team.emplace_back([&, thread] {
      threadIdx = {thread, 0};
      blockDim = {threads, 1};
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = {x, y};
          if (thread == 0) shared = std::vector<float>(shared_bytes / sizeof(float), __builtin_nanf(""));
          between_blocks.wait();
          kernel();
          between_blocks.wait();
        }
      }
    });
  }
  for (std::thread& thread : team) thread.join();
  current = nullptr;
}

}  // namespace host_grid

inline float* shared_memory() { return host_grid::shared.data(); }

}  // namespace srflow

#endif  // SRFLOW_CUDA_TESTS_HOST_GRID_H_
