package loadertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority signs certificates for tests.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, key: rsaKey(t)}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1),
		// cockroach cert gives a client five years, and the authority must outlive it.
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatalf("make an authority: %v", err)
	}
	return a
}

// A KeyForm is how the key of a certificate is written.
type KeyForm int

// The forms of keys: RSA as OpenSSL and cockroach have written it, the form for all
// algorithms, and an elliptic curve's own.
const (
	PKCS1 KeyForm = iota
	PKCS8
	SEC1
)

// A Leaf is a certificate to be signed, of a server or a client.
type Leaf struct {
	Name    string   // the common name: of a client its user
	Hosts   []string // DNS names
	Key     KeyForm
	Expired bool
}

// Write signs a certificate, and writes it and its key, which only the owner may read,
// to dir/base.crt and dir/base.key.
func (a *Authority) Write(dir, base string, l Leaf) (cert, key string) {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: l.Name, Organization: []string{"Cockroach"}}, SerialNumber: serial, DNSNames: l.Hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if l.Expired {
		leaf.NotBefore, leaf.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	var public any
	block := &pem.Block{}
	if l.Key == SEC1 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			a.t.Fatal(err)
		}
		public, block.Type = k.Public(), "EC PRIVATE KEY"
		block.Bytes, err = x509.MarshalECPrivateKey(k)
		if err != nil {
			a.t.Fatal(err)
		}
	} else {
		k := rsaKey(a.t)
		public = k.Public()
		*block = rsaBlock(a.t, k, l.Key)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, public, a.key)
	if err != nil {
		a.t.Fatalf("sign a certificate: %v", err)
	}
	cert, key = filepath.Join(dir, base+".crt"), filepath.Join(dir, base+".key")
	a.file(cert, 0o644, pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.file(key, 0o600, *block)
	return cert, key
}

// WriteCert writes the authority's certificate.
func (a *Authority) WriteCert(path string) {
	a.t.Helper()
	a.file(path, 0o644, pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// WriteKey writes the authority's key, as cockroach cert create-ca does.
func (a *Authority) WriteKey(path string) {
	a.t.Helper()
	a.file(path, 0o600, rsaBlock(a.t, a.key, PKCS1))
}

// file writes a PEM file anew, so that its permissions are those given.
func (a *Authority) file(path string, mode os.FileMode, block pem.Block) {
	a.t.Helper()
	os.Remove(path)
	if err := os.WriteFile(path, pem.EncodeToMemory(&block), mode); err != nil {
		a.t.Fatal(err)
	}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaBlock(t testing.TB, k *rsa.PrivateKey, form KeyForm) pem.Block {
	t.Helper()
	if form == PKCS1 {
		return pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.Block{Type: "PRIVATE KEY", Bytes: der}
}
