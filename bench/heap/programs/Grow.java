// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;

/**
 * A Java program whose heap grows by 64 MiB when it is told to: "ready VERSION, COLLECTOR",
 * a line on its input, "grown", the end of its input. Exit status 1 if what it wrote is not there.
 */
final class Grow {
    private static final int SMALL = 1 << 12;
    private static final int BEFORE = 1 << 20;
    private static final int GROWTH = 64 << 20;

    static byte[][] old;
    static byte[][] grown;

    private Grow() {}

    /** Arrays of 4 KiB, each with a content of its own. */
    private static byte[][] objects(int total) {
        byte[][] all = new byte[total / SMALL][];
        for (int i = 0; i < all.length; i++) {
            all[i] = new byte[SMALL];
            for (int j = 0; j < SMALL; j += 64) {
                all[i][j] = (byte) (i + j / 64);
            }
        }
        return all;
    }

    private static void check(byte[][] all) {
        for (int i = 0; i < all.length; i++) {
            for (int j = 0; j < SMALL; j += 64) {
                if (all[i][j] != (byte) (i + j / 64)) {
                    throw new IllegalStateException("memory changed");
                }
            }
        }
    }

    public static void main(String[] args) throws IOException {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        old = objects(BEFORE);
        String collector = ManagementFactory.getGarbageCollectorMXBeans().get(0).getName();
        System.out.println("ready " + System.getProperty("java.version") + ", " + collector);
        if (input.readLine() == null) {
            System.exit(1);
        }
        grown = objects(GROWTH);
        check(old);
        check(grown);
        System.out.println("grown");
        input.readLine();
    }
}
