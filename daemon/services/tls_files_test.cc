#include "daemon/services/tls_files.h"

#include <catch2/catch.hpp>

#include "absl/time/clock.h"
#include "daemon/services/test_certificates.h"

namespace latentd {
namespace {

// The message of the refusal, which must name `key` of the configuration and `path`.
std::string Refusal(const TlsConfig& files, const std::string& key, const std::string& path,
                    absl::Time now = absl::Now()) {
  const auto facts = CheckTlsFiles(files, now);
  CHECK(facts.status().code() == absl::StatusCode::kFailedPrecondition);
  std::string message(facts.status().message());
  CHECK(message.find("control.tls." + key + ": " + path) == 0);
  return message;
}

TEST_CASE("files that fit together are accepted and the certificate is described") {
  const TestCertificates certificates;
  const auto facts = CheckTlsFiles(certificates.files(), absl::Now());
  REQUIRE(facts.ok());
  CHECK(facts->subject == "CN=server");
  CHECK(facts->expires > absl::Now() + absl::Hours(24));
  CHECK(facts->expires < absl::Now() + absl::Hours(72));
}

TEST_CASE("each file that is missing is named with the system's reason") {
  const TestCertificates certificates;
  TlsConfig files = certificates.files();
  files.cert_path = certificates.directory() + "/none.pem";
  CHECK(Refusal(files, "cert", files.cert_path).find("No such file") != std::string::npos);
  files = certificates.files();
  files.key_path = certificates.directory() + "/none.key";
  CHECK(Refusal(files, "key", files.key_path).find("No such file") != std::string::npos);
  files = certificates.files();
  files.ca_path = certificates.directory() + "/none.pem";
  CHECK(Refusal(files, "ca", files.ca_path).find("No such file") != std::string::npos);
}

TEST_CASE("files that hold something else are refused") {
  const TestCertificates certificates;
  TlsConfig files = certificates.files();
  WriteTestFile(certificates.directory() + "/empty", "");
  files.cert_path = certificates.directory() + "/empty";
  Refusal(files, "cert", files.cert_path);
  files.cert_path = certificates.files().key_path;
  CHECK(Refusal(files, "cert", files.cert_path).find("no PEM certificate") != std::string::npos);
  files = certificates.files();
  files.key_path = files.cert_path;
  CHECK(Refusal(files, "key", files.key_path).find("no PEM private key") != std::string::npos);
  files.key_path = certificates.directory();
  Refusal(files, "key", files.key_path);
}

TEST_CASE("a key of another certificate is refused") {
  TestCertificates certificates;
  certificates.Issue("other");
  TlsConfig files = certificates.files();
  files.key_path = certificates.Files("other").key_path;
  CHECK(Refusal(files, "key", files.key_path).find(files.cert_path) != std::string::npos);
}

TEST_CASE("a certificate out of its time is refused with the date") {
  const TestCertificates certificates;
  const TlsConfig files = certificates.files();
  CHECK(
      Refusal(files, "cert", files.cert_path, absl::Now() + absl::Hours(100)).find("expired on") !=
      std::string::npos);
  CHECK(Refusal(files, "cert", files.cert_path, absl::Now() - absl::Hours(1))
            .find("not valid before") != std::string::npos);
}

}  // namespace
}  // namespace latentd
