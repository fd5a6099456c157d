"""Read by hatchling as it builds: the project's addresses, where the environment names them."""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectUrls(MetadataHookInterface):
    """Puts REPO_URL and SITE_URL into the package's metadata. Without them it has no addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add what is known."""
        repository, site = os.environ.get("REPO_URL", "").rstrip("/"), os.environ.get("SITE_URL", "")
        metadata["urls"] = {
            **({"Documentation": site} if site else {}),
            **({"Source": repository, "Issues": f"{repository}/issues"} if repository else {}),
        }
