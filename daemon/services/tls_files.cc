#include "daemon/services/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

template <auto Free>
struct FreeWith {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
using Bio = std::unique_ptr<BIO, FreeWith<BIO_free>>;
using Certificate = std::unique_ptr<X509, FreeWith<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;

absl::Status Fault(std::string_view which, const std::string& path, std::string_view what) {
  ERR_clear_error();
  return absl::FailedPreconditionError(
      absl::StrCat("control.tls.", absl::string_view(which.data(), which.size()), ": ", path, ": ",
                   absl::string_view(what.data(), what.size())));
}

absl::StatusOr<std::string> ReadWhole(std::string_view which, const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return Fault(which, path, errno != 0 ? std::strerror(errno) : "is empty or cannot be read");
  }
  return std::move(text).str();
}

Bio Over(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Never asks a terminal for a pass phrase.
int NoPassPhrase(char*, int, int, void*) { return 0; }

absl::StatusOr<Certificate> ReadCertificate(std::string_view which, const std::string& path) {
  absl::StatusOr<std::string> text = ReadWhole(which, path);
  if (!text.ok()) return text.status();
  Certificate certificate(PEM_read_bio_X509(Over(*text).get(), nullptr, NoPassPhrase, nullptr));
  if (certificate == nullptr) return Fault(which, path, "holds no PEM certificate");
  return certificate;
}

absl::StatusOr<Key> ReadKey(const std::string& path) {
  absl::StatusOr<std::string> text = ReadWhole("key", path);
  if (!text.ok()) return text.status();
  Key key(PEM_read_bio_PrivateKey(Over(*text).get(), nullptr, NoPassPhrase, nullptr));
  if (key == nullptr) {
    return Fault("key", path, "holds no PEM private key, or one that needs a pass phrase");
  }
  return key;
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string SubjectOf(X509* certificate) {
  const Bio out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long length = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(length));
}

std::string Readable(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<CertificateFacts> CheckTlsFiles(const TlsConfig& files, absl::Time now) {
  absl::StatusOr<Certificate> certificate = ReadCertificate("cert", files.cert_path);
  if (!certificate.ok()) return certificate.status();
  absl::StatusOr<Key> key = ReadKey(files.key_path);
  if (!key.ok()) return key.status();
  if (absl::StatusOr<Certificate> ca = ReadCertificate("ca", files.ca_path); !ca.ok()) {
    return ca.status();
  }

  if (X509_check_private_key(certificate->get(), key->get()) != 1) {
    return Fault("key", files.key_path,
                 absl::StrCat("is not the key of the certificate in ", files.cert_path));
  }
  const absl::Time begins = ToTime(X509_get0_notBefore(certificate->get()));
  const absl::Time expires = ToTime(X509_get0_notAfter(certificate->get()));
  if (now >= expires) {
    return Fault("cert", files.cert_path, absl::StrCat("expired on ", Readable(expires)));
  }
  if (now < begins) {
    return Fault("cert", files.cert_path, absl::StrCat("is not valid before ", Readable(begins)));
  }
  return CertificateFacts{.subject = SubjectOf(certificate->get()), .expires = expires};
}

}  // namespace latentd
