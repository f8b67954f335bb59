"""Where keys, region and endpoint come from, and that keys go nowhere else."""

from pathlib import Path

import pytest

from flat_bug.datasets.s3 import Source
from flat_bug.datasets.s3_access import find_access
from flat_bug.errors import ConfigError, UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
SERVER = "https://s3.example.org"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return variables that name a file of credentials and a file of settings."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = de%fault\n"
        "[lab]\naws_access_key_id=AKIALAB\naws_secret_access_key=lab-secret\naws_session_token=lab-token\n",
    )
    config.write_text(
        f"[profile lab]\nregion = eu-north-1\nendpoint_url = {SERVER}/lab\n[profile sso]\nsso_start_url = https://x\n"
    )
    return {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_CONFIG_FILE": str(config)}


def key_of(**options: object) -> str:
    access = find_access(**options)  # type: ignore[arg-type]
    return access.credentials.key_id if access.credentials else ""


def test_keys_in_the_environment_come_before_a_profile_that_the_environment_names(files: dict[str, str]) -> None:
    environment = {**files, **KEYS, "AWS_PROFILE": "lab"}
    assert key_of(environment=environment) == "AKIAENV"
    assert key_of(environment=environment, profile="lab") == "AKIALAB"
    assert key_of(environment={**files, "AWS_PROFILE": "lab"}) == "AKIALAB"
    assert key_of(environment=files) == "AKIADEFAULT"


def test_the_guides_variables_work_though_the_region_is_a_server_and_the_profile_does_not_exist() -> None:
    environment = {**KEYS, "AWS_PROFILE": "nobody", "AWS_REGION": "se-sto-1.linodeobjects.com"}
    access = find_access(endpoint_url="https://se-sto-1.linodeobjects.com", environment=environment)
    assert access.endpoint == "https://se-sto-1.linodeobjects.com"
    assert access.source == "the environment"


def test_a_region_that_is_a_server_without_an_endpoint_says_what_to_give() -> None:
    with pytest.raises(UsageError) as raised:
        find_access(environment={**KEYS, "AWS_REGION": "se-sto-1.linodeobjects.com"})
    assert "--endpoint-url https://se-sto-1.linodeobjects.com" in raised.value.mend


def test_a_profile_brings_its_token_region_and_endpoint(files: dict[str, str]) -> None:
    access = find_access(profile="lab", environment={**files, **KEYS, "AWS_SESSION_TOKEN": "env-token"})
    assert access.credentials is not None
    assert (access.credentials.secret, access.credentials.token) == ("lab-secret", "lab-token")
    assert (access.region, access.endpoint) == ("eu-north-1", f"{SERVER}/lab")


def test_an_option_comes_before_variables_and_the_variable_for_s3_before_the_general_one(files: dict[str, str]) -> None:
    environment = {**files, **KEYS, "AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3"}
    assert find_access(environment=environment).endpoint == "https://s3"
    assert find_access(endpoint_url=f"{SERVER}/", environment=environment).endpoint == SERVER
    assert find_access(environment={**KEYS, "AWS_DEFAULT_REGION": "eu-west-1"}).endpoint.startswith("https://s3.eu-w")
    assert find_access(environment={**KEYS, "AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}).region == "a"


def test_without_keys_the_error_says_where_they_were_looked_for(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        find_access(profile="nobody", environment=files)
    assert files["AWS_SHARED_CREDENTIALS_FILE"] in raised.value.where
    assert "--anonymous" in raised.value.mend
    assert find_access(anonymous=True, environment=files).credentials is None


def test_keys_that_only_amazons_client_can_fetch_are_named_with_the_way_to_get_them(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        find_access(profile="sso", environment=files)
    assert "export-credentials --profile sso" in raised.value.mend


def test_a_broken_file_of_credentials_is_named_and_not_quoted(tmp_path: Path) -> None:
    broken = tmp_path / "credentials"
    broken.write_text("aws_secret_access_key hunter2\n")
    with pytest.raises(ConfigError) as raised:
        find_access(environment={"AWS_SHARED_CREDENTIALS_FILE": str(broken)})
    assert "hunter2" not in str(raised.value)
    assert raised.value.where == str(broken)
    assert raised.value.__cause__ is None


def test_a_key_with_a_character_that_no_header_holds_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigError) as raised:
        find_access(environment={**KEYS, "AWS_SESSION_TOKEN": "hunter2\nX-Evil: 1"})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint", ["ftp://x", "example.org", "https://", "https://a:b@x", "http://x:y", "http://x y"]
)
def test_what_is_no_address_of_a_server_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError):
        find_access(endpoint_url=endpoint, environment=KEYS)


def test_secrets_are_not_shown_when_access_is_printed() -> None:
    shown = repr(find_access(environment={**KEYS, "AWS_SESSION_TOKEN": "the-token"}))
    assert not any(secret in shown for secret in (*KEYS.values(), "the-token"))


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://b/pre-pro/*", "b", "pre-pro/"),
        ("s3://b/pre-pro/", "b", "pre-pro/"),
        ("s3://b/pre-pro", "b", "pre-pro/"),
        ("s3://b", "b", ""),
        ("s3://b/*", "b", ""),
        ("s3://b/pre*", "b", "pre"),
        ("s3://b/a b/c?", "b", "a b/c?/"),
    ],
)
def test_a_star_at_the_end_of_the_source_means_what_it_means_to_other_clients(
    url: str, bucket: str, prefix: str
) -> None:
    assert Source.parse(url) == Source(bucket, prefix)


@pytest.mark.parametrize("url", ["b/pre", "https://b/pre", "s3://", "s3:///pre", "s3://b/*/x", "s3://-b/x"])
def test_another_source_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Source.parse(url)
