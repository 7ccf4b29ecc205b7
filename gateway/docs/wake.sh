#!/bin/sh
# Makes the table and the plot of wake.md from the reference trace: gateway/docs/wake.sh PROGRAM > wake.svg
# The table goes to standard error.
set -eu
program=$1
traces=$(mktemp -d)
trap 'rm -r "$traces"' EXIT
"$program" simulate --reference > "$traces/0.csv"
"$program" simulate --reference --contacts 60 > "$traces/60.csv"
while read -r contacts keep_alive profile; do
    json=$("$program" simulate "$traces/$contacts.csv" --keep-alive "$keep_alive" --profile "$profile" --json)
    total=$(echo "$json" | sed 's/.*"total":\([0-9]*\).*/\1/')
    optimum=$(echo "$json" | sed 's/.*"optimum":\([0-9]*\).*/\1/')
    echo "$contacts $keep_alive $profile $total $optimum"
done <<ROWS | awk '
    { name = $2 " s, " $3 ($1 > 0 ? ", " $1 " contacts a day" : ""); wakes = $4 / 200
      printf "| %s | %.0f | %.2f |\n", name, wakes, $4 / $5 > "/dev/stderr"
      y = 20 + NR * 24
      bars = bars sprintf("<text x=\"270\" y=\"%d\" text-anchor=\"end\">%s</text><rect x=\"280\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"#36c\"/><text x=\"%.1f\" y=\"%d\">%.0f</text>\n", y, name, y - 12, wakes / 5, 286 + wakes / 5, y, wakes) }
    END { printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"740\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"280\" y=\"18\">wakes per phone per day, reference trace</text>\n%s</svg>\n", NR * 24 + 40, bars }'
0 45 instant
0 60 instant
0 300 instant
0 540 instant
0 540 balanced
0 1680 instant
0 1680 balanced
0 1680 saver
60 1680 balanced
ROWS
