package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The users that the token file names; each group or user name is one that Kubernetes' own roles know.
const (
	adminUser             = "admin"
	controllerManagerUser = "system:kube-controller-manager"
	schedulerUser         = "system:kube-scheduler"
)

// certificateLife is longer than any run; the certificate lives in a temporary folder and dies with it.
const certificateLife = 24 * time.Hour

// identity is everything by which the parts of one cluster know each other, as files in one folder.
type identity struct {
	dir    string
	tokens map[string]string
}

func newIdentity(dir string) (*identity, error) {
	id := &identity{dir: dir, tokens: map[string]string{}}
	var lines strings.Builder
	for _, user := range []string{adminUser, controllerManagerUser, schedulerUser} {
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		id.tokens[user] = hex.EncodeToString(secret)
		fmt.Fprintf(&lines, "%s,%s,%s", id.tokens[user], user, user)
		if user == adminUser {
			lines.WriteString(",system:masters")
		}
		lines.WriteString("\n")
	}
	if err := os.WriteFile(id.tokenFile(), []byte(lines.String()), 0o600); err != nil {
		return nil, err
	}
	if err := id.writeServingCertificate(); err != nil {
		return nil, err
	}
	return id, id.writeServiceAccountKey()
}

func (id *identity) tokenFile() string          { return filepath.Join(id.dir, "tokens.csv") }
func (id *identity) servingCertificate() string { return filepath.Join(id.dir, "apiserver.crt") }
func (id *identity) servingKey() string         { return filepath.Join(id.dir, "apiserver.key") }
func (id *identity) serviceAccountKey() string  { return filepath.Join(id.dir, "service-account.key") }

// writeServingCertificate makes a self-signed certificate for loopback; clients trust exactly this one.
func (id *identity) writeServingCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(id.servingCertificate(), "CERTIFICATE", certificate); err != nil {
		return err
	}
	return writePEM(id.servingKey(), "EC PRIVATE KEY", keyBytes)
}

func (id *identity) writeServiceAccountKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return writePEM(id.serviceAccountKey(), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

func writePEM(path, kind string, content []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
}

// writeKubeconfig writes the access of one user to an apiserver and returns the file, which has this name.
func (id *identity) writeKubeconfig(user, server, name string) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: id.servingCertificate()}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: id.tokens[user]}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	path := filepath.Join(id.dir, name+".kubeconfig")
	return path, clientcmd.WriteToFile(*config, path)
}
