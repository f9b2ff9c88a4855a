"""Secrets are known by the names of files and by the shapes of tokens; nothing else is touched."""

from __future__ import annotations

import sys
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]

import pytest

from codex_counsel.system.redact import (
    DATA,
    MIN_TOKEN,
    mask,
    mask_bytes,
    prefix_rules,
)
from codex_counsel.system.secret_names import secret_name

DATA_FILES = sorted(Path(DATA).iterdir())
SECRET = [
    ".env",
    ".ENV",
    "config/.env.local",
    ".env.production",
    ".envrc",
    ".envrc.local",
    ".env_prod",
    ".env~",
    "secrets.env.swp",
    "dist.p12",
    "ios-dist.p8",
    "dist.pem",
    "example.com.key",
    "server.schema.key",
    "id_rsa.bak",
    "id_rsa.old",
    ".id_rsa.swp",
    "server.key.orig.save",
    ".htpasswd~",
    ".aws/credentials.bak",
    "prod.env",
    "id_rsa",
    "keys/id_ed25519",
    "server.pem",
    "tls/host.key",
    "a.p12",
    "a.pfx",
    "a.jks",
    "vault.kdbx",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".pgpass",
    ".npmrc",
    "credentials.json",
    ".aws/credentials",
    "home/.aws/config",
    ".ssh/config",
    ".ssh/known_hosts",
    ".gnupg/pubring.kbx",
    ".kube/config",
    ".docker/config.json",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "prod.tfvars",
    "secrets.yaml",
    ".git-credentials",
    ".config/gh/hosts.yml",
    ".cargo/credentials.toml",
    "client_secret_1.json",
]
SECRET += [
    ".databrickscfg",
    ".terraformrc",
    "terraform.rc",
    ".tofurc",
    ".snowsql/config",
    ".subversion/auth/svn.simple/a",
    ".subversion/servers",
    ".kaggle/kaggle.json",
    "kaggle.json",
    ".huggingface/token",
    ".cache/huggingface/token",
    ".cache/huggingface/stored_tokens",
    ".config/stripe/config.toml",
    ".config/fly/config.yml",
    ".fly/config.yml",
    ".config/sops/age/keys.txt",
    "sops/age/keys.txt",
    ".config/helm/registry/config.json",
    ".config/github-copilot/hosts.json",
    ".config/configstore/snyk.json",
    ".electrum/wallets/default_wallet",
    ".local/share/atuin/history.db",
    ".local/share/fish/fish_history",
    "fish_history",
    ".mysql_history",
    ".psql_history",
    ".bash_history",
    ".zsh_history",
    ".rediscli_history",
    ".irb_history",
    ".node_repl_history",
    ".sqlite_history",
    ".usql_history",
    ".mycli-history",
    ".python_history",
    ".Rhistory",
    ".octave_hist",
    ".lesshst",
    ".viminfo",
    ".config/pgcli/history",
    ".ipython/profile_default/history.sqlite",
    "master.agekey",
    "age-key.txt",
    "id_ed25519_sk",
    "deploy_id_rsa",
    "github.private-key.asc",
    "host.keytab",
    "krb5cc_1000",
    "otr.private_key",
    ".putty/sessions/a",
    ".chef/knife.rb.d/a.pem",
    ".step/secrets/root_ca_key",
    "store.kdb",
    "store.psafe3",
    "vault.agilekeychain/a.keychain",
    "login.keychain",
    "login.keychain-db",
    "gnome.keyring",
    "kdewallet.kwl",
    "a.kwallet",
    "a.pkcs12",
    "a.bek",
    "a.tpm",
    "key4.db",
    "logins.json",
    "keystore.properties",
    "signing.properties",
    "key.properties",
    ".pki/nssdb/key4.db",
    ".config/op/config",
    ".config/Bitwarden/data.json",
    ".local/share/keyrings/login.keyring",
    ".local/share/kwalletd/kdewallet.kwl",
    "wallet.dat",
    "hot.wallet",
    "UTC--2024-01-01T00-00-00.000Z--ab",
    ".bitcoin/wallet",
    ".ethereum/keystore/a",
    ".config/solana/id.json",
    ".near-credentials/a.json",
    ".foundry/keystores/a",
    ".terraform.d/credentials.tfrc.json",
    ".pulumi/credentials.json",
    "prod.auto.tfvars.json",
    "terraform.tfstate.1234.backup",
    ".authinfo",
    ".pg_service.conf",
    "pgpass.conf",
    ".gitcookies",
    "htpasswd",
    ".mylogin.cnf",
    ".passwd-s3fs",
    ".dockerconfigjson",
    ".dockercfg",
    ".vault-pass",
    "vault_password.txt",
    "credentials.csv",
    "credentials.db",
    "credentials.ini",
    "credentials.yml",
    "credentials.xml",
    "new_user_credentials.csv",
    "me_accessKeys.csv",
    "accessKeys.csv",
    "rootkey.csv",
    "secrets.ini",
    ".secrets",
    ".secrets.yml",
    ".token",
    ".api_key",
    "apikey.txt",
    ".passwd",
    "passwords.csv",
    "token.pickle",
    "oauth_creds.json",
    "oauth_token.json",
    "client_id.json",
    "service-account-prod.json",
    "app-firebase-adminsdk-x1.json",
    "gcloud-service-key.json",
    "adc.json",
    "application_default_credentials.json",
    "local.settings.json",
    "accessTokens.json",
    "azureProfile.json",
    "auth.json",
    "kubeconfig.yaml",
    "prod.kubeconfig",
    "clouds.yaml",
    "openrc.sh",
    ".erlang.cookie",
    ".rhosts",
    ".shosts",
    ".smbcredentials",
    ".davfs2/secrets",
    ".msmtprc",
    ".mbsyncrc",
    ".offlineimaprc",
    ".fetchmailrc",
    ".esmtprc",
    ".muttrc",
    ".neomuttrc",
    ".trc",
    ".tugboat",
    ".hgrc",
    ".cvspass",
    ".p4tickets",
    ".Renviron",
    ".sentryclirc",
    ".condarc",
    ".arcrc",
    ".ftpconfig",
    ".remote-sync.json",
    "sftp-config.json",
    ".vscode/sftp.json",
    "ws_ftp.ini",
    "winscp.ini",
    "filezilla.xml",
    "recentservers.xml",
    "sitemanager.xml",
    ".dbeaver-data-sources.xml",
    "robomongo.json",
    "jenkins.plugins.publish_over_ssh.BapSshPublisherPlugin.xml",
    "proftpdpasswd",
    "office.ovpn",
    "office.tblk",
    "server.rdp",
    "home.nmconnection",
    "wpa_supplicant.conf",
    "wireguard/wg0.conf",
    ".vnc/passwd",
    ".aws/sso/cache/a.json",
    ".aws/cli/cache/a.json",
    ".azure/msal_token_cache.bin",
    ".oci/config",
    ".aliyun/config.json",
    ".kube/cache/a",
    "containers/auth.json",
    ".bundle/config",
    ".composer/auth.json",
    ".m2/settings-security.xml",
    ".config/glab-cli/config.yml",
    ".config/hcloud/cli.toml",
    ".config/scw/config.yaml",
    ".config/openstack/clouds.yaml",
    ".config/ngrok/ngrok.yml",
    ".ngrok2/ngrok.yml",
    ".argocd/config",
    ".config/pypoetry/auth.toml",
    ".config/containers/auth.json",
    ".config/filezilla/a.xml",
    ".config/tea/config.yml",
    ".config/io.datasette.llm/keys.json",
    ".weechat/sec.conf",
    ".irssi/config",
    ".purple/accounts.xml",
    ".recon-ng/keys.db",
    ".cloudflared/cert.pem",
    ".wrangler/config/default.toml",
    ".railway/config.json",
    ".vercel/auth.json",
    ".local/share/opencode/auth.json",
    ".gemini/oauth_creds.json",
    ".claude/.credentials.json",
    ".saml2aws",
    ".okta/a",
    ".mc/config.json",
    ".circleci/cli.yml",
    ".travis/config.yml",
    ".remmina/a.remmina",
    ".mcp-auth/a/tokens.json",
    ".mozilla/firefox/a/cookies.sqlite",
    ".config/google-chrome/Default/Cookies",
    "cookies.txt",
    ".netlify/config.json",
]
OPEN = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    "config/.env.local.example",
    "example.env",
    "id_rsa.pub",
    "monkey.py",
    "keys.py",
    "environment.ts",
    "docs/ssh/config.md",
    "kube/config",
    "docker/config.json",
    "credentials.py",
    "secrets.py",
    "terraform.tf",
    "tokenizer.json",
    "package.json",
    "envelope.py",
    "prod.tfvars.example",
    ".env.example~",
    "app.py.bak",
    "notes.old",
    *[
        "secrets.go",
        "token.go",
        "token.py",
        "tokens.json",
        "auth.py",
        "auth.ts",
        "passwords.py",
        "password_validation.py",
        "history.py",
        "history.md",
        "CHANGELOG.history.md",
        "src/history/index.ts",
        "credentials.ts",
        "Credentials.java",
        "SecretKey.java",
        "secret_token.rb",
        "keyring.py",
        "keystore.go",
        "wallet.ts",
        "vault.py",
        "kube_config.py",
        "docker/config.json",
        "templates/auth.html",
        "locale/de/auth.po",
        "token.json",
        "tokenizer_config.json",
        "login.py",
        "key.py",
        "keys.txt",
        "public.asc",
        "release.tar.gz.asc",
        "SHA256SUMS.asc",
        "passwords.txt",
        "config.json",
        "config.yml",
        "settings.py",
        "database.yml",
        ".gitconfig",
        ".bashrc",
        ".zshrc",
        ".gitignore",
        ".editorconfig",
        ".dockerignore",
        "wireguard.go",
        "rdp.py",
        "ovpn.md",
        "fish/config.fish",
        "data-0123456789ab.json",
        "google-services.json",
        ".config/nvim/init.lua",
        ".vscode/settings.json",
        ".claude/settings.json",
        ".azure-pipelines/a.yml",
        ".circleci/config.yml",
        ".travis.yml",
        ".travis/install.sh",
        "drivers/net/wireguard/device.c",
        ".fly.toml",
        "fly.toml",
        ".helm/values.yaml",
    ],
]


@pytest.mark.parametrize("path", SECRET)
def test_file_named_like_a_secret_is_withheld(path: str) -> None:
    assert secret_name(path)


@pytest.mark.parametrize("path", [".env\n", "a/.e\tnv", "id_rsa\r", "x\x1b.pem"])
def test_a_control_character_hides_no_secret_name(path: str) -> None:
    assert secret_name(path)


@pytest.mark.parametrize("path", OPEN)
def test_file_named_like_no_secret_is_open(path: str) -> None:
    assert secret_name(path) is None


def letters(count: int) -> str:
    return ("aB3dE5gH7jK9mN1pQ4sT" * (count // 20 + 1))[:count]


TOKENS = {
    "openai-key": f"sk-{letters(48)}",
    "openai-key of a project": f"sk-proj-{letters(20)}_-{letters(60)}",
    "anthropic-key": f"sk-ant-api03-{letters(80)}",
    "github-token": f"ghp_{letters(36)}",
    "github-token of an app": f"ghs_{letters(36)}",
    "github-token fine-grained": f"github_pat_{letters(22)}_{letters(59)}",
    "gitlab-token": f"glpat-{letters(20)}",
    "aws-key": "AKIAIOSFODNN7EXAMPLE",
    "google-key": f"AIza{letters(35)}",
    "slack-token": "xoxb-123456789012-abcdefABCDEF",
    "stripe-key": f"sk_live_{letters(24)}",
    "npm-token": f"npm_{letters(36)}",
    "pypi-token": f"pypi-AgEIcHlwaS5vcmc{letters(80)}",
    "huggingface-token": f"hf_{letters(34)}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJ{letters(30)}.{letters(43)}",
    "sendgrid-key": f"SG.{letters(22)}.{letters(43)}",
}


def hexadecimal(count: int) -> str:
    return ("0a1b2c3d4e5f6789" * (count // 16 + 1))[:count]


def capitals(count: int) -> str:
    return ("A2BC3DE4FG5HI6JK7" * (count // 17 + 1))[:count]


UUID = "01234567-89ab-4cde-8f01-23456789abcd"
MORE_TOKENS = {
    "anthropic-key admin": f"sk-ant-admin01-{letters(93)}AA",
    "openai-key service": f"sk-svcacct-{letters(80)}",
    "openrouter-key": f"sk-or-v1-{hexadecimal(64)}",
    "langfuse-key": f"sk-lf-{UUID}",
    "google-token": f"GOCSPX-{letters(28)}",
    "google-token refresh": f"1//0{letters(60)}",
    "google-token access": f"ya29.{letters(60)}",
    "huggingface-token organisation": f"api_org_{letters(34)}",
    "groq-key": f"gsk_{letters(52)}",
    "xai-key": f"xai-{letters(80)}",
    "perplexity-key": f"pplx-{letters(48)}",
    "replicate-token": f"r8_{letters(37)}",
    "nvidia-key": f"nvapi-{letters(64)}",
    "pinecone-key": f"pcsk_{letters(70)}",
    "tavily-key": f"tvly-dev-{letters(32)}",
    "langsmith-key": f"lsv2_pt_{hexadecimal(32)}_{hexadecimal(10)}",
    "fireworks-key": f"fw_{letters(24)}",
    "elevenlabs-key": f"sk_{hexadecimal(48)}",
    "aws-bedrock-key": f"ABSK{letters(120)}",
    "aws-key temporary": f"ASIA{capitals(16)}",
    "aws-key bearer": f"ABIA{capitals(16)}",
    "aws-session-token": f"IQoJb3JpZ2luX2VjE{letters(200)}".replace("_", "A"),
    "github-token refresh": f"ghr_{letters(76)}",
    "gitlab-token of a runner": f"glrt-{letters(20)}",
    "gitlab-token of a feed": f"glft-{letters(20)}",
    "gitlab-token of an agent": f"glagent-{letters(50)}",
    "gitlab-token of an application": f"gloas-{hexadecimal(64)}",
    "gitlab-token of a registration": f"GR1348941{letters(20)}",
    "bitbucket-token": f"ATBB{letters(32)}",
    "atlassian-token": f"ATATT3{letters(186)}",
    "rubygems-key": f"rubygems_{hexadecimal(48)}",
    "crates-token": f"cio{letters(32)}",
    "nuget-key": f"oy2{letters(43).lower()}",
    "clojars-token": f"CLOJARS_{hexadecimal(60)}",
    "docker-token": f"dckr_pat_{letters(27)}",
    "artifactory-key": f"AKCp{letters(69)}",
    "artifactory-token": f"cmVmd{letters(59)}",
    "circleci-token": f"CCIPAT_{letters(22)}_{hexadecimal(40)}",
    "buildkite-token": f"bkua_{hexadecimal(40)}",
    "sonarqube-token": f"squ_{hexadecimal(40)}",
    "sourcegraph-token": f"sgp_local_{hexadecimal(40)}",
    "octopus-key": f"API-{capitals(26)}",
    "harness-token": f"pat.{letters(22)}.{letters(24)}.{letters(20)}",
    "readme-key": f"rdme_{hexadecimal(70)}",
    "prefect-key": f"pnu_{letters(36)}",
    "pulumi-token": f"pul-{hexadecimal(40)}",
    "azure-devops-token": f"JQQJ99{letters(78)}",
    "alibaba-key": f"LTAI{letters(20)}",
    "yandex-key": f"AQVN{letters(36)}",
    "digitalocean-token": f"dop_v1_{hexadecimal(64)}",
    "cloudflare-key": f"v1.0-{hexadecimal(24)}-{hexadecimal(146)}",
    "fly-token": f"fm2_{letters(120)}",
    "heroku-key": f"HRKU-AA{letters(58)}",
    "netlify-token": f"nfp_{letters(36)}",
    "scalingo-token": f"tk-us-{letters(48)}",
    "databricks-token": f"dapi{hexadecimal(32)}",
    "planetscale-token": f"pscale_tkn_{letters(43)}",
    "supabase-key": f"sbp_{hexadecimal(40)}",
    "vault-token": f"hvs.{letters(95)}",
    "doppler-token": f"dp.st.dev.{letters(43)}",
    "1password-token": f"ops_eyJ{letters(260)}",
    "1password-key": "A3-ABC123-DEF456-GHI78-JKL90-MNO12-PQR34",
    "age-key": f"AGE-SECRET-KEY-1{capitals(58)}",
    "tailscale-key": f"tskey-auth-{letters(17)}-{letters(30)}",
    "infracost-key": f"ico-{letters(32)}",
    "openshift-token": f"sha256~{letters(43)}",
    "dynatrace-token": f"dt0c01.{capitals(24)}.{capitals(64)}",
    "grafana-token": f"glsa_{letters(32)}_{hexadecimal(8)}",
    "newrelic-key": f"NRAK-{capitals(27)}",
    "sentry-token": f"sntryu_{hexadecimal(64)}",
    "slack-token of an app": "xapp-1-A0123456789-0123456789012-abcdef0123456789",
    "brevo-key": f"xkeysib-{hexadecimal(64)}-{letters(16)}",
    "mailgun-key": f"key-{hexadecimal(32)}",
    "mailersend-key": f"mlsn.{hexadecimal(64)}",
    "resend-key": f"re_{letters(8)}_{letters(24)}",
    "twilio-key": f"SK{hexadecimal(32)}",
    "notion-token": f"ntn_01234567890{letters(35)}",
    "linear-key": f"lin_api_{letters(40)}",
    "figma-token": f"figd_{letters(40)}",
    "airtable-token": f"pat{letters(14)}.{hexadecimal(64)}",
    "hubspot-token": f"pat-na1-{UUID}",
    "typeform-token": f"tfp_{letters(59)}",
    "postman-key": f"PMAK-{hexadecimal(24)}-{hexadecimal(34)}",
    "adobe-secret": f"p8e-{letters(32)}",
    "contentful-token": f"CFPAT-{letters(43)}",
    "facebook-token": f"EAACE{letters(120)}",
    "frameio-token": f"fio-u-{letters(64)}",
    "settlemint-token": f"sm_pat_{letters(16)}",
    "maxmind-key": f"{letters(6)}_{letters(29)}_mmk",
    "square-token": f"sq0atp-{letters(22)}",
    "paypal-token": f"access_token$production${hexadecimal(16)}${hexadecimal(32)}",
    "plaid-token": f"access-production-{UUID}",
    "shopify-token": f"shpat_{hexadecimal(32)}",
    "shippo-token": f"shippo_live_{hexadecimal(40)}",
    "easypost-key": f"EZAK{letters(54)}",
    "duffel-token": f"duffel_test_{letters(43)}",
    "flutterwave-key": f"FLWSECK_TEST-{hexadecimal(32)}-X",
    "stripe-key restricted": f"rk_live_{letters(24)}",
}
ASSIGNED = {
    "datadog-token": f'DATADOG_API_KEY="{hexadecimal(32)}"',
    "cloudflare-token": f"cloudflare_api_token: {letters(40)}",
    "heroku-token": f"HEROKU_API_KEY={UUID}",
    "twilio-token": f'"twilio_auth_token": "{hexadecimal(32)}"',
    "algolia-token": f"algolia.admin-key = '{hexadecimal(32)}'",
    "discord-token": f"DISCORD_TOKEN={letters(24)}.{letters(6)}.{letters(38)}",
    "telegram-token": f"telegram_bot_token={'1' * 10}:Q{letters(34)}",
    "okta-token": f"okta_token => '00{letters(40)}'",
    "snyk-token": f"export SNYK_TOKEN={UUID}",
    "mailchimp-token": f"mailchimpKey = '{hexadecimal(32)}-us12'",
    "facebook-token": f"facebook_app_secret: str = '{hexadecimal(32)}'",
    "secret": f'client_secret = "{letters(40)}"',
    "secret of a session": f"SESSION_SECRET={hexadecimal(64)}",
    "secret in a longer value": f"command: CLIENT_SECRET_OF_APP={letters(40)} run",
    "snyk-token in a longer value": f'x = "A_LONG_NAME_SNYK_TOKEN: {UUID}"',
    "secret of a database": f"DB_PASSWORD: {letters(24)}",
}


@pytest.mark.parametrize("kind", MORE_TOKENS)
def test_token_of_a_known_issuer_is_masked(kind: str) -> None:
    token = MORE_TOKENS[kind]
    for text in (f'key = "{token}"', f"+{token}\n", rf"'\n{token}'", f"a={token};"):
        masked, count = mask(text)
        assert token[-12:] not in masked
        assert (f"[masked:{kind.split(maxsplit=1)[0]}]" in masked, count) == (True, 1)


@pytest.mark.parametrize("kind", ASSIGNED)
def test_token_without_a_prefix_is_masked_by_what_it_is_assigned_to(kind: str) -> None:
    masked, count = mask(ASSIGNED[kind])
    assert (f"[masked:{kind.split(maxsplit=1)[0]}]" in masked, count) == (True, 1)


def test_every_prefix_has_a_body_that_tells_it_from_a_word() -> None:
    """`mask` looks for the prefixes only in words of that length."""
    for rule in prefix_rules():
        assert _parser.parse(rule.pattern).getwidth()[0] >= MIN_TOKEN, rule


@pytest.mark.parametrize("name", sorted(path.name for path in DATA_FILES))
def test_a_data_file_names_its_sources_and_their_licenses(name: str) -> None:
    text = (Path(DATA) / name).read_text("ascii")
    comment = "\n".join(line for line in text.split("\n") if line.startswith("#"))
    assert "https://github.com/gitleaks/gitleaks" in comment
    assert "(MIT)" in comment


@pytest.mark.parametrize("kind", TOKENS)
def test_token_is_masked_by_kind_and_counted(kind: str) -> None:
    expected = f'key = "[masked:{kind.split(maxsplit=1)[0]}]"  # note'
    assert mask(f'key = "{TOKENS[kind]}"  # note') == (expected, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"aws_secret_access_key = {letters(40)}",
            "aws_secret_access_key = [masked:aws-secret]",
        ),
        (
            f'"SecretAccessKey": "{letters(40)}"',
            '"SecretAccessKey": "[masked:aws-secret]"',
        ),
        (
            f"Authorization: Bearer {letters(30)}",
            "Authorization: Bearer [masked:authorization]",
        ),
        ("postgres://me:hunter2@db/x", "postgres://me:[masked:url-password]@db/x"),
        ("redis://:hunter2@db", "redis://:[masked:url-password]@db"),
        (
            "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijkl",
            "https://hooks.slack.com/services/[masked:slack-webhook]",
        ),
    ],
)
def test_what_stands_before_a_secret_stays(text: str, expected: str) -> None:
    assert mask(text) == (expected, 1)


@pytest.mark.parametrize(
    "text",
    [
        "commit 08006744b0adaa6f5985078acc351dfea4762b2b",
        "class='sk-folding-cube sk-three-bounce-and-some-more-words-behind'",
        f"data:image/png;base64,{letters(400)}",
        "risk-taking-is-not-a-key-but-a-long-hyphenated-word-of-letters",
        "http://localhost:8080/@scope and git@github.com:a/b.git",
        "postgres://${USER}:${PASSWORD}@host and https://{user}:{password}@host",
        'if "-----BEGIN PRIVATE KEY-----" in text:\n    return True\n',
        "Bearer authentication-is-described-in-the-manual",
        "sha256-" + letters(44),
        f"token = {letters(12)}.get_token_for_the_user_1",
        "api_key = settings.EXTERNAL_SERVICE_API_KEY_V2",
        "secret_key = getSecretKeyFromTheVault2(name)",
        "password = SomeKindOfPassword123",
        "token: AccessTokenResponse2FromTheServer",
        f"public_key = '{letters(44)}'",
        f"cache_key = '{hexadecimal(32)}'",
        f"password_hash = '{hexadecimal(64)}'",
        f"api_key_id = '{letters(24)}'",
        f"integrity: sha512-{letters(86)}==",
        f"rev = '{hexadecimal(40)}'  # secret",
        "SECRET_KEY_FALLBACKS = ['example-0123456789-EXAMPLE-abc']",
        "re_compile_the_pattern_of_every_2_rules and hf_hub_download_the_model_files_1",
        "sk_learn_feature_extraction_text_Vectorizer1, secret_sharing_scheme_with_threshold_2_of_3_parties",
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert mask(text) == (text, 0)


KEY = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        *[letters(64)] * 3,
        "QUJDRA==",
        "-----END RSA PRIVATE KEY-----",
    ]
)


@pytest.mark.parametrize("prefix", ["", "+", "-", " ", "17\t", "+    "])
def test_private_key_is_masked_line_by_line(prefix: str) -> None:
    text = "\n".join(prefix + line for line in ["before", *KEY.split("\n"), "after"])
    masked, count = mask(text)
    body = [f"{prefix}[masked:private-key]"] * 4
    edges = [
        f"{prefix}-----BEGIN RSA PRIVATE KEY-----",
        *body,
        f"{prefix}-----END RSA PRIVATE KEY-----",
    ]
    assert (masked.split("\n"), count) == (
        [f"{prefix}before", *edges, f"{prefix}after"],
        1,
    )


def test_private_key_of_which_a_hunk_shows_only_the_end_is_masked() -> None:
    masked, count = mask("\n".join(["+" + line for line in KEY.split("\n")[2:]]))
    assert letters(64) not in masked
    assert count == 1


def test_private_key_cut_off_is_masked() -> None:
    masked, count = mask("\n".join(KEY.split("\n")[:3]))
    assert letters(64) not in masked
    assert count == 1


def test_private_key_in_one_quoted_line_is_masked() -> None:
    text = 'key = "' + KEY.replace("\n", "\\n") + '\\n"  # keep'
    expected = 'key = "-----BEGIN RSA PRIVATE KEY-----[masked:private-key]-----END RSA PRIVATE KEY-----\\n"  # keep'
    assert mask(text) == (expected, 1)


def test_masking_twice_changes_nothing_more() -> None:
    once = mask("\n".join([*TOKENS.values(), KEY, "a://b:secret@c"]))[0]
    assert mask(once) == (once, 0)


def test_lines_of_a_diff_are_kept() -> None:
    diff = "".join(
        f"{mark}token = '{token}'\r\n" for token in TOKENS.values() for mark in "+- "
    )
    masked, count = mask(diff)
    assert count == 3 * len(TOKENS)
    assert [line[:9] for line in masked.split("\n")] == [
        line[:9] for line in diff.split("\n")
    ]


def test_bytes_that_are_not_text_are_left_alone() -> None:
    noise = bytes(range(256))
    assert mask_bytes(noise + TOKENS["github-token"].encode() + b"\n" + noise) == (
        noise + b"[masked:github-token]\n" + noise,
        1,
    )


class Steps:
    """Counts the lines of Python executed, a measure of work that no busy machine bends."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> Steps:
        self.count += 1
        return self


def steps(text: str) -> int:
    mask(text)  # reads the data files and compiles what it needs, once
    counter = Steps()
    before = sys.gettrace()
    sys.settrace(counter)
    try:
        mask(text)
    finally:
        sys.settrace(before)
    return counter.count


@pytest.mark.parametrize(
    "seed",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n\n",
        letters(64) + "\n-----END PRIVATE KEY-----\n",
    ],
)
def test_work_on_private_keys_grows_with_the_text_and_not_faster(seed: str) -> None:
    assert steps(seed * 2000) < 5 * steps(seed * 500)


@pytest.mark.parametrize(
    "seed",
    [
        "sk-",
        "eyJ",
        "eyJa",
        "://",
        "://a:",
        "ghp_",
        "Bearer ",
        "AKIA",
        "SG.",
        "SecretAccessKey=",
        "a",
        "token=",
        "secret='a1B2c3D4e5F6g7H8i9J0",
        "key-",
        ":AA",
        "=",
        "pat.",
        "dp.st.",
    ],
)
def test_repeated_beginnings_of_tokens_end(seed: str) -> None:
    text = seed * (4_000_000 // len(seed))
    assert len(mask(text)[0]) > 0
