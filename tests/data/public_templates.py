# SPDX-License-Identifier: Apache-2.0
"""Chat templates in the forms of public models, written anew.

Each marks the assistant's turns with {% generation %}. `without_marks` gives what models have."""

from __future__ import annotations

import re

CHATML = """\
{% for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content + '<|im_end|>' }}{%- endgeneration %}
{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

LLAMA2 = """\
{%- set system = '' %}
{%- if messages[0].role == 'system' %}
{%- set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant') }}
{%- endif %}
{%- if m.role == 'user' %}
{{- bos_token + '[INST] ' + (system if loop.first else '') + m.content.strip() + ' [/INST]' }}
{%- else %}
{%- generation %}{{- ' ' + m.content.strip() + ' ' + eos_token }}{%- endgeneration %}
{%- endif %}
{%- endfor %}"""

LLAMA3 = """\
{{- bos_token }}
{%- set date = strftime_now('%d %b %Y') %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date + '\\n\\n' }}
{%- if tools is not none %}{% for t in tools %}{{- t | tojson(indent=4) }}{% endfor %}{%- endif %}
{%- if messages[0].role == 'system' %}
{{- messages[0].content | trim }}{%- set messages = messages[1:] %}
{%- endif %}
{{- '<|eot_id|>' }}
{%- for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}
{%- if m.tool_calls %}
{{- '{"name": "' + m.tool_calls[0].function.name + '"}' }}
{%- else %}
{{- m.content | trim }}
{%- endif %}
{{- '<|eot_id|>' }}
{%- endgeneration %}
{%- else %}
{{- m.content | trim + '<|eot_id|>' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

GEMMA = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{- raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content | trim + '<end_of_turn>' }}{%- endgeneration %}
{%- else %}
{{- m.content | trim + '<end_of_turn>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

MISTRAL = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}
{%- if tools and loop.last %}{{- '[TOOLS]' + (tools | tojson) + '[/TOOLS]' }}{%- endif %}
{%- if system is defined and loop.first %}
{{- '[INST]' + system + '\\n\\n' + m.content + '[/INST]' }}
{%- else %}
{{- '[INST]' + m.content + '[/INST]' }}
{%- endif %}
{%- elif m.role == 'assistant' %}
{%- generation %}{{- m.content + eos_token }}{%- endgeneration %}
{%- endif %}
{%- endfor %}"""

PHI3 = """\
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{{- '<|assistant|>\\n' }}
{%- generation %}{{- m.content + '<|end|>' }}{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}"""

ZEPHYR = """\
{%- for m in messages %}
{{- '<|' + m.role + '|>\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content + eos_token }}{%- endgeneration %}
{%- else %}
{{- m.content + eos_token }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"""

QWEN3 = """\
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for m in messages %}
{%- set content = m.content if m.content is string else '' %}
{%- if m.role == 'assistant' %}
{%- set thought = '' %}
{%- if m.reasoning_content is string %}
{%- set thought = m.reasoning_content %}
{%- elif '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}
{{- content }}
{%- endif %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

R1 = """\
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{- m.content }}{%- endif %}
{%- if m.role == 'user' %}{{- '<|User|>' + m.content }}{%- endif %}
{%- if m.role == 'assistant' %}
{%- set content = m.content %}
{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
{{- '<|Assistant|>' }}
{%- generation %}{{- content + eos_token }}{%- endgeneration %}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|>' }}{%- endif %}"""

TOOL_USE = """\
{{- '<|im_start|>system\\nTools: ' + (tools | tojson) + '<|im_end|>\\n' }}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}
{{- m.content or '' }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""Hermes' and Command-R's second template, for tools."""
GRANITE = """\
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{%- set rest = messages[1:] %}
{%- else %}
{%- set system = 'Date: ' + strftime_now('%B %d, %Y') + '. You help.' %}{%- set rest = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\\n' }}
{%- if tools %}
{{- '<|start_of_role|>tools<|end_of_role|>' + (tools | tojson(indent=4)) + '<|end_of_text|>\\n' }}
{%- endif %}
{%- for m in rest %}
{{- '<|start_of_role|>' + m.role + '<|end_of_role|>' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content + '<|end_of_text|>' }}{%- endgeneration %}
{%- else %}
{{- m.content + '<|end_of_text|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"""

VICUNA = """\
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{{- 'ASSISTANT: ' }}
{%- generation %}{{- m.content + eos_token }}{%- endgeneration %}
{%- else %}
{{- m.role | upper + ': ' + m.content + ' ' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- 'ASSISTANT: ' }}{%- endif %}"""
"""The prompt ends with a space, which is a part of the answer's first token."""
PLAIN = """\
{%- for m in messages %}
{{- '### ' + m.role + ':\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content + '\\n' }}{%- endgeneration %}
{%- else %}
{{- m.content + '\\n' }}
{%- endif %}
{{- '\\n' if not loop.last }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\n### assistant:\\n' }}{%- endif %}"""
"""No control tokens. A line's end may be one token with the next."""

FORMS: dict[str, str | dict[str, str]] = {
    "ChatML": CHATML,
    "Llama 2": LLAMA2,
    "Llama 3": LLAMA3,
    "Gemma": GEMMA,
    "Mistral": MISTRAL,
    "Phi-3": PHI3,
    "Zephyr": ZEPHYR,
    "Qwen3": QWEN3,
    "R1": R1,
    "Hermes": {"default": CHATML, "tool_use": TOOL_USE},
    "Granite": GRANITE,
    "Vicuna": VICUNA,
    "plain": PLAIN,
}
CONTROLS = (
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<|end|>",
    "<|assistant|>", "<|user|>", "<|system|>", "<|User|>", "<|Assistant|>",
    "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>",
)  # fmt: skip


def without_marks(form: str | dict[str, str]) -> str | dict[str, str]:
    """A template, or several by name, without {% generation %}."""
    if isinstance(form, dict):
        return {name: str(without_marks(template)) for name, template in form.items()}
    return re.sub(r"\{%-? (end)?generation %\}", "", form)
