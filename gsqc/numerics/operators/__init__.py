# SPDX-License-Identifier: Apache-2.0
"""Integer tensor operators: one interface (`builder`), one implementation per use."""
