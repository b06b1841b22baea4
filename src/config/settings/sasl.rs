//! Logins and permissions.

use crate::config::setting::{
    Items, Rule, Setting, boolean, class, double, flag, float, int, list, long, null, number,
    password, short, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    string("authorizer.class.name", text(""))
        .rule(Rule::NotNull)
        .low()
        .no_effect("Java class that decides who may do what."),
    int("connection.failed.authentication.delay.ms", number(100))
        .at_least(0)
        .low()
        .no_effect("Delay before a connection is closed after a failed login, in milliseconds."),
    long("connections.max.reauth.ms", number(0))
        .no_effect("Time after which a client has to log in again, in milliseconds."),
    long("delegation.token.expiry.check.interval.ms", number(3_600_000))
        .at_least(1)
        .low()
        .no_effect("Time between two sweeps of expired delegation tokens, in milliseconds."),
    long("delegation.token.expiry.time.ms", number(86_400_000))
        .at_least(1)
        .no_effect("Time a delegation token lives before it must be renewed, in milliseconds."),
    long("delegation.token.max.lifetime.ms", number(604_800_000)).at_least(1).no_effect(
        "Time after which a delegation token can not be renewed any more, in milliseconds.",
    ),
    password("delegation.token.secret.key", null())
        .no_effect("Secret with which delegation tokens are signed."),
    class(
        "principal.builder.class",
        text("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
    )
    .per_broker()
    .no_effect("Java class that names who is connected."),
    class("sasl.client.callback.handler.class", null())
        .no_effect("Java class of SASL logins to other brokers."),
    list("sasl.enabled.mechanisms", text("GSSAPI"))
        .items(Items::NOT_NULL, &[])
        .per_broker()
        .no_effect("SASL mechanisms that are switched on."),
    password("sasl.jaas.config", null())
        .per_broker()
        .no_effect("Login module and credentials of SASL."),
    string("sasl.kerberos.kinit.cmd", text("/usr/bin/kinit"))
        .per_broker()
        .no_effect("Path of kinit."),
    long("sasl.kerberos.min.time.before.relogin", number(60_000))
        .per_broker()
        .no_effect("Least time between two Kerberos logins, in milliseconds."),
    list("sasl.kerberos.principal.to.local.rules", text("DEFAULT"))
        .items(Items::NOT_NULL, &[])
        .per_broker()
        .no_effect("Rules that turn Kerberos principals into names."),
    string("sasl.kerberos.service.name", null())
        .per_broker()
        .no_effect("Kerberos name of the broker's service."),
    double("sasl.kerberos.ticket.renew.jitter", float(0.05))
        .per_broker()
        .no_effect("Randomness of ticket renewal."),
    double("sasl.kerberos.ticket.renew.window.factor", float(0.8))
        .per_broker()
        .no_effect("Part of a ticket's life after which it is renewed."),
    class("sasl.login.callback.handler.class", null())
        .no_effect("Java class that fetches credentials."),
    class("sasl.login.class", null()).no_effect("Java class of logins."),
    int("sasl.login.connect.timeout.ms", null())
        .low()
        .no_effect("Time to connect to an identity provider, in milliseconds."),
    int("sasl.login.read.timeout.ms", null())
        .low()
        .no_effect("Time to read from an identity provider, in milliseconds."),
    short("sasl.login.refresh.buffer.seconds", number(300))
        .per_broker()
        .no_effect("Time before expiry at which credentials are fresh enough, in seconds."),
    short("sasl.login.refresh.min.period.seconds", number(60))
        .per_broker()
        .no_effect("Least time between two refreshes of credentials, in seconds."),
    double("sasl.login.refresh.window.factor", float(0.8))
        .per_broker()
        .no_effect("Part of the credentials' life after which they are refreshed."),
    double("sasl.login.refresh.window.jitter", float(0.05))
        .per_broker()
        .no_effect("Randomness of that refresh."),
    long("sasl.login.retry.backoff.max.ms", number(10_000)).low().no_effect(
        "Longest wait between two tries to reach an identity provider, in milliseconds.",
    ),
    long("sasl.login.retry.backoff.ms", number(100))
        .low()
        .no_effect("First wait between two tries to reach an identity provider, in milliseconds."),
    string("sasl.mechanism.controller.protocol", text("GSSAPI"))
        .high()
        .no_effect("SASL mechanism towards controllers."),
    string("sasl.mechanism.inter.broker.protocol", text("GSSAPI"))
        .per_broker()
        .no_effect("SASL mechanism between brokers."),
    string("sasl.oauthbearer.assertion.algorithm", text("RS256"))
        .rule(Rule::OneOfAnyCase(&["ES256", "RS256"]))
        .no_effect("Algorithm that signs OAuth assertions."),
    string("sasl.oauthbearer.assertion.claim.aud", null())
        .no_effect("Audience of OAuth assertions."),
    int("sasl.oauthbearer.assertion.claim.exp.seconds", number(300))
        .between(0, 86_400)
        .low()
        .no_effect("Life of OAuth assertions, in seconds."),
    string("sasl.oauthbearer.assertion.claim.iss", null()).no_effect("Issuer of OAuth assertions."),
    boolean("sasl.oauthbearer.assertion.claim.jti.include", flag(false))
        .no_effect("Whether OAuth assertions carry an id."),
    int("sasl.oauthbearer.assertion.claim.nbf.seconds", number(60))
        .between(0, 3600)
        .low()
        .no_effect("How long before now OAuth assertions become valid, in seconds."),
    string("sasl.oauthbearer.assertion.claim.sub", null())
        .no_effect("Subject of OAuth assertions."),
    string("sasl.oauthbearer.assertion.file", null())
        .no_effect("File with a ready OAuth assertion."),
    string("sasl.oauthbearer.assertion.private.key.file", null())
        .no_effect("File with the key that signs OAuth assertions."),
    password("sasl.oauthbearer.assertion.private.key.passphrase", null())
        .no_effect("Passphrase of that key."),
    string("sasl.oauthbearer.assertion.template.file", null())
        .no_effect("File with a template of OAuth assertions."),
    string("sasl.oauthbearer.client.credentials.client.id", null())
        .no_effect("Client id for OAuth client credentials."),
    password("sasl.oauthbearer.client.credentials.client.secret", null())
        .no_effect("Secret for OAuth client credentials."),
    int("sasl.oauthbearer.clock.skew.seconds", number(30))
        .low()
        .no_effect("Difference allowed to the identity provider's clock, in seconds."),
    list("sasl.oauthbearer.expected.audience", text(""))
        .items(Items::NOT_NULL, &[])
        .high()
        .no_effect("Audiences a token may have."),
    string("sasl.oauthbearer.expected.issuer", null())
        .high()
        .no_effect("Issuer a token must have."),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms", number(3_600_000))
        .low()
        .no_effect("Time after which the provider's keys are fetched again, in milliseconds."),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", number(10_000))
        .low()
        .no_effect("Longest wait between two tries to fetch the keys, in milliseconds."),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", number(100))
        .low()
        .no_effect("First wait between two tries to fetch the keys, in milliseconds."),
    string("sasl.oauthbearer.jwks.endpoint.url", null())
        .no_effect("Where the provider's keys are found."),
    class(
        "sasl.oauthbearer.jwt.retriever.class",
        text("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    )
    .no_effect("Java class that fetches tokens."),
    class(
        "sasl.oauthbearer.jwt.validator.class",
        text("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    )
    .no_effect("Java class that checks tokens."),
    string("sasl.oauthbearer.scope", null()).no_effect("Scope asked for in a token."),
    string("sasl.oauthbearer.scope.claim.name", text("scope"))
        .low()
        .no_effect("Name of the scope claim."),
    string("sasl.oauthbearer.sub.claim.name", text("sub"))
        .low()
        .no_effect("Name of the subject claim."),
    string("sasl.oauthbearer.token.endpoint.url", null()).no_effect("Where tokens are fetched."),
    class("sasl.server.callback.handler.class", null())
        .no_effect("Java class that checks SASL logins."),
    int("sasl.server.max.receive.size", number(524_288))
        .no_effect("Largest SASL message, in bytes."),
    string("security.inter.broker.protocol", text("PLAINTEXT"))
        .rule(Rule::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))
        .no_effect("Security protocol between brokers when no listener is named for it."),
    string("security.providers", null()).low().no_effect("Java security providers."),
];
