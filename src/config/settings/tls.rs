//! TLS.

use crate::config::setting::{
    Items, Rule, Setting, boolean, class, flag, list, null, password, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    boolean("ssl.allow.dn.changes", flag(false))
        .low()
        .no_effect("Whether a new certificate may have another name."),
    boolean("ssl.allow.san.changes", flag(false))
        .low()
        .no_effect("Whether a new certificate may have other alternative names."),
    list("ssl.cipher.suites", text(""))
        .items(Items::NOT_NULL, &[])
        .per_broker()
        .no_effect("Cipher suites of TLS."),
    string("ssl.client.auth", text("none"))
        .rule(Rule::OneOf(&["required", "requested", "none"]))
        .per_broker()
        .no_effect("Whether clients must show a certificate."),
    list("ssl.enabled.protocols", text("TLSv1.2,TLSv1.3"))
        .items(Items::NOT_NULL, &[])
        .per_broker()
        .no_effect("Versions of TLS."),
    string("ssl.endpoint.identification.algorithm", text("https"))
        .low()
        .per_broker()
        .no_effect("How host names are checked."),
    class("ssl.engine.factory.class", null())
        .low()
        .per_broker()
        .no_effect("Java class that makes TLS engines."),
    password("ssl.key.password", null()).per_broker().no_effect("Password of the private key."),
    string("ssl.keymanager.algorithm", text("SunX509"))
        .per_broker()
        .no_effect("Java algorithm of the key manager."),
    password("ssl.keystore.certificate.chain", null())
        .per_broker()
        .no_effect("Certificate chain, as PEM."),
    password("ssl.keystore.key", null()).per_broker().no_effect("Private key, as PEM."),
    string("ssl.keystore.location", null())
        .per_broker()
        .no_effect("File with certificate and key."),
    password("ssl.keystore.password", null()).per_broker().no_effect("Password of that file."),
    string("ssl.keystore.type", text("JKS")).per_broker().no_effect("Format of that file."),
    string("ssl.principal.mapping.rules", text("DEFAULT"))
        .low()
        .no_effect("Rules that turn certificate names into user names."),
    string("ssl.protocol", text("TLSv1.3")).per_broker().no_effect("Preferred version of TLS."),
    string("ssl.provider", null()).per_broker().no_effect("Java security provider of TLS."),
    string("ssl.secure.random.implementation", null())
        .low()
        .per_broker()
        .no_effect("Java random generator of TLS."),
    string("ssl.trustmanager.algorithm", text("PKIX"))
        .per_broker()
        .no_effect("Java algorithm of the trust manager."),
    password("ssl.truststore.certificates", null())
        .per_broker()
        .no_effect("Trusted certificates, as PEM."),
    string("ssl.truststore.location", null())
        .per_broker()
        .no_effect("File with trusted certificates."),
    password("ssl.truststore.password", null()).per_broker().no_effect("Password of that file."),
    string("ssl.truststore.type", text("JKS")).per_broker().no_effect("Format of that file."),
];
