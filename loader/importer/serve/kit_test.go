package serve_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/importer/virtual"
)

const testRows = 50_000

func points() dataset.PointSource {
	return dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: dataset.MinKeyBase, Rows: testRows}}
}

func parts(t *testing.T, n int) []*virtual.File {
	t.Helper()
	list, err := virtual.Parts(points(), virtual.CSV, chunker.Range{End: testRows}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// certificate makes a certificate for localhost and returns its files and a pool that
// trusts it.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return certFile, keyFile, pool
}

// whole returns the bytes of a text from an offset on.
func whole(t *testing.T, x *virtual.File, from int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := x.Write(context.Background(), &b, from); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
