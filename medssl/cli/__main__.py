"""``python -m medssl.cli`` is ``medssl``."""

from medssl.cli import main

raise SystemExit(main())
