// Stands in for programs that need CUDA, in builds without it.
#include <cstdio>

int main() {
  std::fprintf(stderr, "built without CUDA\n");
  return 2;
}
