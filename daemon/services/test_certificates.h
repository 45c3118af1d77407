// A throw-away certificate authority for tests: writes PEM files below a temporary directory, which
// goes when it goes.
#ifndef LATENTD_DAEMON_SERVICES_TEST_CERTIFICATES_H_
#define LATENTD_DAEMON_SERVICES_TEST_CERTIFICATES_H_

#include <string>

#include "config/config.h"

namespace latentd {

class TestCertificates {
 public:
  // Makes an authority, and by it a certificate for 127.0.0.1 and localhost.
  TestCertificates();
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  const std::string& directory() const { return directory_; }
  // Of the daemon: "server".
  TlsConfig files() const { return Files("server"); }
  TlsConfig Files(const std::string& name) const;

  // Writes <name>.pem and <name>.key, signed by `authority`; replaces them in one step if they are
  // there.
  void Issue(const std::string& name, const std::string& authority = "ca", int days = 2);
  void MakeAuthority(const std::string& name);

 private:
  void OpenSsl(const std::string& arguments) const;

  std::string directory_;
};

std::string ReadTestFile(const std::string& path);
void WriteTestFile(const std::string& path, const std::string& text);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_TEST_CERTIFICATES_H_
