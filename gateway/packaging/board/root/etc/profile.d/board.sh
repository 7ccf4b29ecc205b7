# The owner's commands mean the gateway that runs here.
alias unifiedpush-gateway='unifiedpush-gateway --config /etc/unifiedpush-gateway/unifiedpush-gateway.toml'
[ -z "$PS1" ] || board-problems
