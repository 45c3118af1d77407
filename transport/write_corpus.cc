// Writes the generated part of the fuzzing corpus: write_corpus DIRECTORY.
#include <cstdio>
#include <fstream>

#include "transport/wire_corpus.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  for (const latentd::CorpusMessage& message : latentd::MakeCorpus()) {
    const auto input = latentd::ToFuzzInput(message);
    std::ofstream file(std::string(argv[1]) + "/" + message.name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(input.data()),
               static_cast<std::streamsize>(input.size()));
    if (!file.good()) {
      std::fprintf(stderr, "cannot write %s/%s\n", argv[1], message.name.c_str());
      return 1;
    }
  }
  return 0;
}
