import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Utils;

/**
 * Prints the partition of many accounts as the Java client computes it for a string key, as JSON on standard output.
 *
 * <p>Invariant: the output depends on nothing but the client's version, so that a regenerated file is the same file. It
 * does not use Penstock's code in any way: that is the point of it.
 */
public final class PartitionVectors {
    private static final int[] PARTITION_COUNTS = {1, 3, 12, 100};

    public static void main(String[] arguments) {
        StringBuilder json = new StringBuilder("[\n");
        String separator = "";
        try (StringSerializer serializer = new StringSerializer()) {
            for (String account : accounts()) {
                byte[] key = serializer.serialize("access.changes", account);
                for (int partitions : PARTITION_COUNTS) {
                    json.append(separator).append(vector(account, partitions, partition(key, partitions)));
                    separator = ",\n";
                }
            }
        }
        byte[] bytes = json.append("\n]\n").toString().getBytes(StandardCharsets.UTF_8);
        System.out.write(bytes, 0, bytes.length);
        System.out.flush();
    }

    /** The producer's own choice, held against the formula that the contract states. */
    private static int partition(byte[] key, int partitions) {
        int chosen = BuiltInPartitioner.partitionForKey(key, partitions);
        int stated = Utils.toPositive(Utils.murmur2(key)) % partitions;
        if (chosen != stated) {
            throw new AssertionError("the client chose " + chosen + ", the contract's formula gives " + stated);
        }
        return chosen;
    }

    private static List<String> accounts() {
        List<String> accounts = new ArrayList<>();
        // What rows without an account hash to, and the text nobody may use but everybody must place alike.
        accounts.add("global");
        for (int i = 0; i < 60; i++) {
            accounts.add(UUID.nameUUIDFromBytes(("account " + i).getBytes(StandardCharsets.UTF_8)).toString());
        }
        accounts.add("00000000-0000-0000-0000-000000000000");
        accounts.add("ffffffff-ffff-ffff-ffff-ffffffffffff");
        integers(accounts);
        // Every length, so that each length of the hash's tail occurs after each number of whole words.
        for (int length = 0; length <= 40; length++) {
            accounts.add("abcdefghijklmnopqrstuvwxyz0123456789_-.:".substring(0, length));
        }
        text(accounts);
        return accounts;
    }

    private static void integers(List<String> accounts) {
        for (int i = -10; i <= 20; i++) {
            accounts.add(Integer.toString(i));
        }
        long[] extremes = {
            Short.MIN_VALUE, Short.MAX_VALUE, Integer.MIN_VALUE, Integer.MAX_VALUE, Long.MIN_VALUE, Long.MAX_VALUE,
        };
        for (long extreme : extremes) {
            accounts.add(Long.toString(extreme));
        }
        for (long power = 100; power <= 1_000_000_000_000_000_000L && power > 0; power *= 10) {
            accounts.add(Long.toString(power));
            accounts.add(Long.toString(-power - 7));
        }
    }

    /** Bytes above 127 in every place of the tail: a signed byte that is not masked shows here. */
    private static void text(List<String> accounts) {
        String[] characters = {"é", "ß", "Ω", "ж", "中", "한", "\u00a0", "\ufffd", "🌊", "𝄞", "\udbff\udffd"};
        for (String character : characters) {
            accounts.add(character);
            accounts.add("a" + character);
            accounts.add("ab" + character + "c");
        }
        accounts.add("Überfluß & Söhne");
        accounts.add("北京市朝阳区");
        accounts.add("👩‍👩‍👧‍👦 family");
        accounts.add("e\u0301 is not é");
        accounts.add("  spaces kept  ");
        accounts.add("tab\there");
        accounts.add("line\nbreak");
        accounts.add("quote\" and back\\slash");
        accounts.add("bell\u0007");
        accounts.add("Global");
        accounts.add("GLOBAL");
    }

    private static String vector(String account, int partitions, int partition) {
        return "{\"account\": " + quoted(account) + ", \"partitions\": " + partitions + ", \"partition\": " + partition
                + "}";
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (int i = 0; i < text.length(); i++) {
            char unit = text.charAt(i);
            if (unit == '"' || unit == '\\') {
                json.append('\\').append(unit);
            } else if (unit < 0x20) {
                json.append(String.format("\\u%04x", (int) unit));
            } else {
                json.append(unit);
            }
        }
        return json.append('"').toString();
    }
}
