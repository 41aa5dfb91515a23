"""How `--help` looks: plain text of 80 columns, the options of a command in groups."""

from collections import defaultdict
from typing import Any

from typer.core import TyperCommand

CONTEXT: dict[str, Any] = {"help_option_names": ["--help", "-h"], "max_content_width": 80}
OTHERS = "Options"  # the heading of options that name no group


class GroupedCommand(TyperCommand):
    """A command whose help has its options under the headings that they name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then the groups in the order of their first options, then the rest."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            group = "Arguments" if param.param_type_name == "argument" else OTHERS
            if record := param.get_help_record(ctx):
                groups[getattr(param, "rich_help_panel", None) or group].append(record)
        for heading in sorted(groups, key=lambda each: each == OTHERS):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])
