"""Who asks an object store, and where it is: the variables, files and profiles that other S3 clients use."""

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flat_bug.errors import ConfigError, UsageError

DEFAULT_REGION = "us-east-1"
DEFAULT_PROFILE = "default"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL")
OTHER_SOURCES = ("sso_session", "sso_start_url", "credential_process", "role_arn", "web_identity_token_file")
"""Settings of a profile whose keys only Amazon's own client can fetch."""


@dataclass(frozen=True)
class Credentials:
    """A key pair, and the token that comes with a temporary one. Not shown when printed."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Access:
    """How an object store is reached.

    Attributes:
        endpoint: Address of the server, without a path's last slash.
        region: Region to sign for. Servers other than Amazon's take any word.
        credentials: Who asks; None for a public bucket.
        source: Where the credentials come from, for messages.
        ca_bundle: File of certificates to trust beside those of the system.
    """

    endpoint: str
    region: str
    credentials: Credentials | None
    source: str
    ca_bundle: Path | None = None

    def hide(self, text: str) -> str:
        """Return a text without the secrets in it: a server may repeat what it was sent."""
        if self.credentials is not None:
            for secret in (self.credentials.secret, self.credentials.token, self.credentials.key_id):
                text = text.replace(secret, "(hidden)") if secret else text
        return text


def find_access(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    anonymous: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Access:
    """Find out how to reach the object store: options first, then variables, then the profile's files.

    As in other clients, keys in the environment come before ``AWS_PROFILE``, and a profile that is named by an option
    comes before both.

    Args:
        endpoint_url: Address of the server; Amazon's by default.
        region: Region to sign for.
        profile: Profile in ``~/.aws/credentials`` and ``~/.aws/config``.
        anonymous: Ask without credentials.
        environment: Variables; those of this process by default.

    Raises:
        ConfigError: There are no credentials, or a file or value is broken.
        UsageError: The endpoint is no address of a server.
    """
    name = profile or environment.get("AWS_PROFILE") or DEFAULT_PROFILE
    settings = _read_profile(name, environment)
    ca_bundle = environment.get("AWS_CA_BUNDLE") or settings.get("ca_bundle")
    credentials, source = None, "no credentials, since the bucket is public"
    if not anonymous:
        credentials, source = _find_credentials(name, settings, environment, asked_for=profile is not None)
    found_region = (
        region
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or settings.get("region")
        or DEFAULT_REGION
    )
    from_environment = next((environment[name] for name in ENDPOINT_VARIABLES if environment.get(name)), None)
    endpoint = endpoint_url or from_environment or settings.get("endpoint_url")
    if endpoint is None:
        endpoint = _amazons_endpoint(found_region)
    return Access(
        endpoint=_checked_endpoint(endpoint),
        region=found_region,
        credentials=credentials,
        source=source,
        ca_bundle=Path(ca_bundle).expanduser() if ca_bundle else None,
    )


def _find_credentials(
    name: str, settings: Mapping[str, str], environment: Mapping[str, str], *, asked_for: bool
) -> tuple[Credentials, str]:
    found, source = [environment.get(key, "").strip() for key in KEYS], "the environment"
    if asked_for or not (found[0] and found[1]):
        found, source = [settings.get(key.lower(), "").strip() for key in KEYS], f"profile {name!r}"
    if not (found[0] and found[1]):
        raise _no_credentials(name, settings, environment)
    # A header cannot hold anything else, and the libraries' own complaints would quote the value.
    if not all(re.fullmatch(r"[\x21-\x7e]*", value) for value in found):
        raise ConfigError("the credentials hold a space or another character that keys do not have", where=source)
    return Credentials(*found), source


def _no_credentials(name: str, settings: Mapping[str, str], environment: Mapping[str, str]) -> ConfigError:
    looked_at = ", ".join(str(path) for path in _files(environment))
    if any(key in settings for key in OTHER_SOURCES):
        return ConfigError(
            f"the credentials of profile {name!r} have to be fetched by Amazon's own client",
            where=looked_at,
            mend=f'Run: eval "$(aws configure export-credentials --profile {name} --format env)"',
        )
    return ConfigError(
        f"there are no credentials: no AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, and no profile {name!r} with both",
        where=looked_at,
        mend="Set both variables or --profile, or use --anonymous if the bucket is public.",
    )


def _files(environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Return the file of credentials and the file of settings."""
    return (
        Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser(),
        Path(environment.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser(),
    )


def _read_profile(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what both files say of a profile; the file of credentials comes first."""
    credentials, config = _files(environment)
    in_config = name if name == DEFAULT_PROFILE else f"profile {name}"
    return _read_section(config, in_config) | _read_section(credentials, name)


def _read_section(path: Path, section: str) -> dict[str, str]:
    # Keys may hold a "%", which an interpolating parser would take for a reference.
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", where=path) from error
    except (configparser.Error, UnicodeDecodeError):
        # The parser's message quotes lines of the file, which hold secrets.
        raise ConfigError("the file is not of the form [profile], name = value", where=path) from None
    return dict(parser[section]) if parser.has_section(section) else {}


def _amazons_endpoint(region: str) -> str:
    if "." in region:
        raise UsageError(
            f"the region {region!r} is the name of a server",
            mend=f"Say where the bucket is: --endpoint-url https://{region}",
        )
    return f"https://s3.{region}.amazonaws.com"


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if usable and "@" in parts.netloc:
        raise UsageError("the endpoint holds a user name", mend="Give keys by AWS_ACCESS_KEY_ID or --profile.")
    if not usable or parts.query or parts.fragment or not re.fullmatch(r"[\x21-\x7e]+", endpoint):
        raise UsageError(
            "the endpoint is no address of a server",
            where="" if "@" in endpoint else endpoint,
            mend="Write it like https://se-sto-1.linodeobjects.com",
        )
    return endpoint.rstrip("/")
