# The image in an emulated board, for test-image, which sources this: how it is started and cut off, how files get
# onto it, and how a device and its pushes go in and out. Everything is kept in $test.
#
# machine is virt, raspi3b or pc; image, where its image lies; patience, for how many seconds anything is waited for;
# begin, what SECONDS was when the test began.

step() { echo "test-image: $((SECONDS - begin)) s: $machine: $*"; }
fail() {
    echo "test-image: $machine: $*" >&2
    [[ ! -e $test/console ]] || tail -n 40 "$test/console" >&2
    exit 1
}
cut_power() {
    [[ -z $qemu ]] || { kill -9 "$qemu" && wait "$qemu"; } 2>/dev/null || true
    qemu=
}

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
pause() { read -rt "$1" <> <(:) || true; }
# What the command says becomes true, or it is a failure after TEST_PATIENCE seconds (patience).
eventually() { # what, command...
    local what=$1 limit=$((SECONDS + ${TEST_PATIENCE:-$patience}))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < limit)) || fail "for ${TEST_PATIENCE:-$patience} s there was not: $what"
        kill -0 "$qemu" 2>/dev/null || fail "qemu has ended"
        pause 0.3
    done
}

# A card as it comes from the shop, with the image at its beginning.
new_card() {
    rm -rf "$test"
    mkdir -p "$test"
    cp --sparse=always $image/unifiedpush-gateway.img "$test/disk"
    # Larger than the image; qemu wants a power of two where it is an SD card.
    truncate -s 4G "$test/disk"
    http=$(port) mqtts=$(port) shell=$(port)
    ssh-keygen -q -t ed25519 -N '' -f "$test/key"
    cp gateway/packaging/board/fat/settings.txt "$test/settings.txt"
    echo "ssh_key=$(cat "$test/key.pub")" >>"$test/settings.txt"
    fat "$test/settings.txt" ::settings.txt
    : >"$test/accepted"
    : >"$test/sent"
}
fat() { mcopy -o -i "$test/disk@@1M" "$@"; }

# Whether the gateway answers for an endpoint that nobody has. Asked anew each second, because what is asked
# before the emulated network is there waits too long for its answer.
answers() {
    curl -s -m 20 -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$http/p/none" >>"$test/codes" &
    pause 0.7
    grep -qx 404 "$test/codes"
}
# The seconds of processor time that qemu has used: what a start costs, however busy this machine is.
used() { awk -v hz="$(getconf CLK_TCK)" '{ print int(($14 + $15) / hz) }' "/proc/$qemu/stat"; }
start() { # what it is started with
    local from=$SECONDS emulator=qemu-system-aarch64 options
    local network="user,id=net,hostfwd=tcp:127.0.0.1:$http-:8080,hostfwd=tcp:127.0.0.1:$mqtts-:8883,hostfwd=tcp:127.0.0.1:$shell-:22"
    local on_disk="file=$test/disk,format=raw,cache=writethrough"
    case $machine in
        raspi3b)
            # Its other serial port is its Bluetooth's. Two of its four processors: each is a thread here.
            options=(-M raspi3b -dtb "$image/bcm2837-rpi-3-b.dtb" -drive "$on_disk,if=sd" -device usb-net,netdev=net
                -serial null -append "root=LABEL=root rw console=ttyS1,115200 net.ifnames=0 maxcpus=2 quiet")
            ;;
        *)
            options=(-smp 2 -m 512 -drive "$on_disk,if=none,id=card" -device virtio-blk-pci,drive=card
                -device virtio-net-pci,netdev=net,romfile=)
            ;;&
        # A Cortex-A53 may leave the kernel in the page tables of its programs (no Meltdown). Where qemu hands over a seed
        # for its place, the kernel keeps tables of its own all the same, and each system call costs emulation twice.
        virt) options+=(-M virt -cpu cortex-a53 -append "root=LABEL=root rw console=ttyAMA0 net.ifnames=0 kpti=off quiet") ;;
        pc)
            emulator=qemu-system-x86_64
            options+=(-M q35,accel=tcg -cpu max -append "root=LABEL=root rw console=ttyS0 net.ifnames=0 quiet")
            ;;
    esac
    : >"$test/codes"
    $emulator "${options[@]}" -kernel $image/vmlinuz -initrd $image/initrd.img -netdev "$network" \
        -display none -monitor none -serial stdio -no-reboot >"$test/console" 2>&1 </dev/null &
    qemu=$!
    eventually "an answer" answers
    step "$1: it answers $((SECONDS - from)) s after the start of qemu, which has used $(used) s of processor time (load $(cut -d ' ' -f 1 /proc/loadavg))"
}

board() {
    ssh -q -p "$shell" -i "$test/key" -o ConnectTimeout=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        root@127.0.0.1 "$@" </dev/null
}
put() { # file, where
    ssh -q -p "$shell" -i "$test/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        root@127.0.0.1 "cat >$2" <"$1"
}
gateway() { board unifiedpush-gateway --config "$toml" "$@"; }
log_says() { board "journalctl -b -o cat -u unifiedpush-gateway" | grep -q -e "$1"; }
doctor_says() { # words...
    local said word
    said=$(gateway doctor --json --idle 0) || true
    for word; do [[ $said == *"$word"* ]] || fail "doctor does not say \"$word\": $said"; done
}
# A setting of the unit until the next start.
override() { # lines of [Service]
    board "mkdir -p /run/systemd/system/$unit.d; printf '[Service]\n$1\n' >/run/systemd/system/$unit.d/test.conf; systemctl daemon-reload"
}
no_override() { board "rm /run/systemd/system/$unit.d/test.conf; systemctl daemon-reload"; }

pair() {
    local paired
    gateway ca >"$test/ca.pem"
    paired=$(gateway device add phone --json)
    device=$(field device <<<"$paired")
    secret=$(field secret <<<"$paired")
    endpoint=$(gateway registration add "$device" app --json | field endpoint)
}
post() { # body; prints the status
    echo "$1" >>"$test/sent"
    curl -s -m 120 -o /dev/null -w '%{http_code}' -H 'TTL: 86400' -d "$1" "http://127.0.0.1:$http/${endpoint#*:8080/}" || true
}
everything() { # how many, after which word
    local number
    for number in $(seq 1 "$1"); do [[ $(post "$2/$number") == 201 ]] && echo "$2/$number"; done >>"$test/accepted"
    [[ -s $test/accepted ]] || fail "nothing was answered 201"
}
# Pushes, one after the other, until there is a file $test/stop; the answers go to $test/answers.
push_on() { # word
    local number=0
    until [[ -e $test/stop ]]; do
        number=$((number + 1))
        echo "$(post "$1/$number") $1/$number" >>"$test/answers"
        # Two of them stay below the 10 a second that an endpoint may get for long.
        pause 0.2
    done
}
has_all() { [[ -z $(sort "$test/received" | comm -23 <(sort "$test/accepted") -) ]]; }
# Everything that was answered 201 comes to the device, and nothing that nobody has sent.
all_came() {
    local subscriber foreign
    : >"$test/received"
    stdbuf -oL mosquitto_sub -V 5 -h 127.0.0.1 -p "$mqtts" --cafile "$test/ca.pem" --insecure -u "$device" -P "$secret" \
        -q 1 -t "up/$device/inbox/#" -T "up/$device/inbox/plan" -F '%p' >"$test/received" &
    subscriber=$!
    eventually "all $(wc -l <"$test/accepted") that were answered 201" has_all
    kill $subscriber && wait $subscriber || true
    foreign=$(sort -u "$test/received" | comm -13 <(sort -u "$test/sent") -)
    [[ -z $foreign ]] || fail "nobody has sent $foreign"
    step "all $(wc -l <"$test/accepted") that were answered 201 came"
    : >"$test/accepted"
}
