#include "daemon/services/test_certificates.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace latentd {

TestCertificates::TestCertificates() {
  std::string pattern = (std::filesystem::temp_directory_path() / "latentd-tls-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  directory_ = pattern;
  MakeAuthority("ca");
  Issue("server");
}

TestCertificates::~TestCertificates() { std::filesystem::remove_all(directory_); }

TlsConfig TestCertificates::Files(const std::string& name) const {
  return {.cert_path = directory_ + "/" + name + ".pem",
          .key_path = directory_ + "/" + name + ".key",
          .ca_path = directory_ + "/ca.pem"};
}

void TestCertificates::MakeAuthority(const std::string& name) {
  OpenSsl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" + name +
          " -keyout " + name + ".key -out " + name + ".pem");
}

void TestCertificates::Issue(const std::string& name, const std::string& authority, int days) {
  WriteTestFile(directory_ + "/extensions", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  OpenSsl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + name +
          " -keyout new.key -out new.csr");
  OpenSsl("x509 -req -in new.csr -CA " + authority + ".pem -CAkey " + authority +
          ".key -CAcreateserial -days " + std::to_string(days) +
          " -extfile extensions -out new.pem");
  std::filesystem::rename(directory_ + "/new.key", directory_ + "/" + name + ".key");
  std::filesystem::rename(directory_ + "/new.pem", directory_ + "/" + name + ".pem");
}

void TestCertificates::OpenSsl(const std::string& arguments) const {
  const std::string command =
      "cd '" + directory_ + "' && openssl " + arguments + " >openssl.log 2>&1";
  if (std::system(command.c_str()) != 0) {
    throw std::runtime_error("openssl " + arguments + ": " +
                             ReadTestFile(directory_ + "/openssl.log"));
  }
}

std::string ReadTestFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void WriteTestFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace latentd
